//! What the return codes of PKCS#11 mean for the caller.

use cryptoki::error::{Error, RvError};

use super::problem::TokenProblem;

/// What a refused login means.
pub(super) fn login_problem(label: &str, error: &Error) -> TokenProblem {
    let token = label.to_owned();
    let Error::Pkcs11(rv, _) = error else {
        return failed(label, error);
    };
    if matches!(rv, RvError::PinIncorrect) {
        TokenProblem::PinWrong { token }
    } else if matches!(rv, RvError::PinLocked) {
        TokenProblem::PinLocked { token }
    } else if matches!(
        rv,
        RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::UserPinNotInitialized
    ) {
        let code = format!("{rv:?}");
        TokenProblem::PinUnusable { token, code }
    } else {
        failed(label, error)
    }
}

/// A return code that has no meaning of its own here.
pub(super) fn failed(label: &str, error: &Error) -> TokenProblem {
    let (function, code) = code(error);
    TokenProblem::Failed {
        token: label.to_owned(),
        function,
        code,
    }
}

/// Function and return code, short.
pub(super) fn code(error: &Error) -> (String, String) {
    if let Error::Pkcs11(rv, function) = error {
        (format!("C_{function:?}"), format!("{rv:?}"))
    } else {
        ("the module".to_owned(), error.to_string())
    }
}

/// Whether a new session may mend it.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::UserNotLoggedIn
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::CryptokiNotInitialized,
            _
        )
    )
}

/// Whether the token cannot do this at all.
pub(super) fn is_unsupported(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::CurveNotSupported
                | RvError::FunctionNotSupported,
            _
        ) | Error::NotSupported
            | Error::NullFunctionPointer
    )
}

/// Whether another name of the same curve may be taken.
pub(super) fn names_the_curve_otherwise(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::CurveNotSupported
                | RvError::DomainParamsInvalid
                | RvError::AttributeValueInvalid
                | RvError::TemplateInconsistent
                | RvError::ArgumentsBad,
            _
        )
    )
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    fn login(rv: RvError) -> TokenProblem {
        login_problem("t", &Error::Pkcs11(rv, Function::Login))
    }

    #[test]
    fn pin_errors_are_told_apart_and_never_tried_again_by_themselves() {
        let token = || "t".to_owned();
        assert_eq!(
            login(RvError::PinIncorrect),
            TokenProblem::PinWrong { token: token() }
        );
        assert_eq!(
            login(RvError::PinLocked),
            TokenProblem::PinLocked { token: token() }
        );
        for rv in [RvError::PinExpired, RvError::UserPinNotInitialized] {
            assert!(matches!(login(rv), TokenProblem::PinUnusable { .. }));
        }
        for rv in [
            RvError::PinIncorrect,
            RvError::PinLocked,
            RvError::PinExpired,
        ] {
            assert!(login(rv).is_about_pin());
        }
        let device = login(RvError::DeviceError);
        assert!(device.to_string().contains("C_Login"), "{device}");
        assert!(!device.is_about_pin() && device.may_pass());
    }

    #[test]
    fn lost_handles_and_missing_mechanisms_are_told_apart() {
        let sign = |rv| Error::Pkcs11(rv, Function::Sign);
        assert!(is_lost(&sign(RvError::SessionHandleInvalid)));
        assert!(is_lost(&sign(RvError::DeviceRemoved)));
        assert!(!is_lost(&sign(RvError::GeneralError)));
        assert!(is_unsupported(&sign(RvError::MechanismInvalid)));
        assert!(failed("t", &sign(RvError::DeviceError)).may_have_used_key());
    }
}
