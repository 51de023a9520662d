//! Errors as gRPC statuses.

use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::ExecuteError;
use tonic::Status;

/// A refusal.
pub(super) fn of_rejection(rejection: &Rejection) -> Status {
    let reason = rejection.reason.clone();
    match rejection.code {
        RejectionCode::NotFound => Status::not_found(reason),
        RejectionCode::Invalid => Status::invalid_argument(reason),
        RejectionCode::NotNow => Status::failed_precondition(reason),
        RejectionCode::Refused => Status::permission_denied(reason),
    }
}

/// A command that gave nothing.
pub(super) fn of_error(error: &ExecuteError) -> Status {
    match error {
        ExecuteError::Rejected(rejection) => of_rejection(rejection),
        ExecuteError::Unavailable(_) | ExecuteError::Unknown(_) => {
            Status::unavailable(error.to_string())
        }
        ExecuteError::Illegal(_) | ExecuteError::Decode(_) | ExecuteError::Broken(_) => {
            Status::data_loss(error.to_string())
        }
    }
}
