//! The token, through its module. Only the worker process comes here.

use std::{collections::HashMap, path::Path};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, CertificateType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};

use super::{
    codes::{code, failed, is_lost, is_unsupported, login_problem, names_the_curve_otherwise},
    problem::TokenProblem,
    protocol::{Done, KeyClaims, KeyObject, TokenFacts, Work},
};

/// `CKA_EC_PARAMS` for Ed25519: the curve's name as a DER `PrintableString` (PKCS#11 3.0, Edwards EC keys), which SoftHSM2 wants, and its
/// object identifier 1.3.101.112 (RFC 8410), which some tokens want instead.
const CURVES: [&[u8]; 2] = [b"\x13\x0cedwards25519", b"\x06\x03\x2b\x65\x70"];
/// What stands before the 32 bytes of a public point in a DER OCTET STRING.
const POINT_PREFIX: [u8; 2] = [0x04, 0x20];
/// What stands before them in the `SubjectPublicKeyInfo` of a certificate (RFC 8410): DER has one spelling of it.
const SUBJECT_KEY_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// Longer certificates are not kept, in bytes.
const MAX_CERTIFICATE: usize = 4096;

/// A token with a session that is logged in.
pub(super) struct Token {
    module: Pkcs11,
    label: String,
    pin: AuthPin,
    /// `None` after it was lost and before a new one is there.
    session: Option<Session>,
    facts: TokenFacts,
    /// Private keys found in this session, by `CKA_ID`.
    found: HashMap<[u8; 16], ObjectHandle>,
}

/// Why a step did not work.
enum Trouble {
    /// The session, the login or an object handle is no longer good; a new session may be.
    Lost,
    /// Anything else.
    Problem(TokenProblem),
}

impl From<TokenProblem> for Trouble {
    fn from(problem: TokenProblem) -> Self {
        Self::Problem(problem)
    }
}

impl Token {
    /// Loads the module, finds the token and logs in. A token with a single try of the PIN left is left alone.
    pub(super) fn open(module: &Path, label: &str, pin: AuthPin) -> Result<Self, TokenProblem> {
        let not_loadable = |error: Error| TokenProblem::ModuleNotLoadable {
            module: module.display().to_string(),
            reason: error.to_string(),
        };
        let module = Pkcs11::new(module).map_err(not_loadable)?;
        initialize(&module).map_err(not_loadable)?;
        let (session, facts) = log_in(&module, label, &pin)?;
        Ok(Self {
            module,
            label: label.to_owned(),
            pin,
            session: Some(session),
            facts,
            found: HashMap::new(),
        })
    }

    /// The token's own description.
    pub(super) fn facts(&self) -> &TokenFacts {
        &self.facts
    }

    /// Does one request. A lost session is opened anew once.
    pub(super) fn perform(&mut self, work: &Work) -> Result<Done, TokenProblem> {
        for _ in 0..2 {
            match self.attempt(work) {
                Ok(done) => return Ok(done),
                Err(Trouble::Problem(problem)) => return Err(problem),
                Err(Trouble::Lost) => self.reopen()?,
            }
        }
        Err(TokenProblem::SessionLost {
            token: self.label.clone(),
        })
    }

    fn reopen(&mut self) -> Result<(), TokenProblem> {
        self.found.clear();
        // Closed before a new one is opened: after a new start the module may give the same handle again.
        self.session = None;
        // Somebody else in this process (a module's own thread) may have finalised it.
        initialize(&self.module).map_err(|error| failed(&self.label, &error))?;
        let (session, facts) = log_in(&self.module, &self.label, &self.pin)?;
        self.session = Some(session);
        self.facts = facts;
        Ok(())
    }

    fn session(&self) -> Result<&Session, Trouble> {
        self.session.as_ref().ok_or(Trouble::Lost)
    }

    fn attempt(&mut self, work: &Work) -> Result<Done, Trouble> {
        match work {
            Work::Make(key) => self.make(key),
            Work::Sign { key, message } => self.sign(key, message),
            Work::Forbid(key) => self.forbid(key),
            Work::Permit(key) => self.permit(key),
            Work::Destroy(key) => self.destroy(key),
            Work::Vouch { key, public_key } => self.vouch(key, public_key),
            Work::Alone { key, public_key } => self.alone(key, public_key),
            Work::Look => self.look(),
        }
    }

    fn look(&self) -> Result<Done, Trouble> {
        find(&self.module, &self.label)?;
        self.session()?
            .get_session_info()
            .map_err(|error| self.trouble(&error))?;
        Ok(Done::Seen)
    }

    fn make(&mut self, key: &KeyObject) -> Result<Done, Trouble> {
        let private = match self.private_key(key)? {
            Some(private) => private,
            None => self.generate(key)?,
        };
        let public = self
            .objects(key, ObjectClass::PUBLIC_KEY)?
            .into_iter()
            .next();
        let public = public.ok_or_else(|| self.unfit(key, "its public part is missing"))?;
        self.check_confined(key, private)?;
        let public_key = self.public_point(key, public)?;
        let claims = Box::new(self.claims(private)?);
        Ok(Done::Made { public_key, claims })
    }

    /// What the token says of the key. An attribute that it does not know is left open.
    fn claims(&self, private: ObjectHandle) -> Result<KeyClaims, Trouble> {
        let (_, info) = find(&self.module, &self.label)?;
        let says = |attribute| match self.flag(private, attribute) {
            Ok(said) => Ok(said),
            Err(Trouble::Problem(_)) => Ok(None),
            Err(lost @ Trouble::Lost) => Err(lost),
        };
        Ok(KeyClaims {
            local: says(AttributeType::Local)?,
            always_sensitive: says(AttributeType::AlwaysSensitive)?,
            never_extractable: says(AttributeType::NeverExtractable)?,
            extractable: says(AttributeType::Extractable)?,
            token_serial: info.serial_number().to_owned(),
            token_model: info.model().to_owned(),
            token_manufacturer: info.manufacturer_id().to_owned(),
        })
    }

    /// An X.509 certificate with the key's `CKA_ID` that names its public key: where HSMs that attest their keys leave the attestation.
    fn vouch(&self, key: &KeyObject, public_key: &[u8; 32]) -> Result<Done, Trouble> {
        let template = [
            Attribute::Token(true),
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Id(key.cka_id.to_vec()),
        ];
        let objects = self
            .session()?
            .find_objects(&template)
            .map_err(|error| self.trouble(&error))?;
        let named = [SUBJECT_KEY_PREFIX.as_slice(), public_key].concat();
        for object in objects {
            let attributes = self
                .session()?
                .get_attributes(object, &[AttributeType::Value])
                .map_err(|error| self.trouble(&error))?;
            for attribute in attributes {
                if let Attribute::Value(der) = attribute
                    && der.len() <= MAX_CERTIFICATE
                    && der.windows(named.len()).any(|part| part == named)
                {
                    let certificate = Some(hex::encode(der));
                    return Ok(Done::Vouched { certificate });
                }
            }
        }
        Ok(Done::Vouched { certificate: None })
    }

    /// Looks for other public keys that are this one. (The public part of a private key cannot be read, so one that lies there alone is not found.)
    fn alone(&self, key: &KeyObject, public_key: &[u8; 32]) -> Result<Done, Trouble> {
        // Some tokens leave the OCTET STRING around the point out.
        let written = [
            [&POINT_PREFIX[..], public_key].concat(),
            public_key.to_vec(),
        ];
        for point in written {
            let template = [
                Attribute::Token(true),
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::EcPoint(point),
            ];
            let objects = self
                .session()?
                .find_objects(&template)
                .map_err(|error| self.trouble(&error))?;
            for object in objects {
                let (cka_id, label) = self.name_of(object)?;
                if cka_id != key.cka_id || label != key.label {
                    return Err(Trouble::Problem(TokenProblem::KeyTwice {
                        token: self.label.clone(),
                        label: key.label.clone(),
                        other: label,
                    }));
                }
            }
        }
        Ok(Done::Alone)
    }

    /// `CKA_ID` and `CKA_LABEL`.
    fn name_of(&self, object: ObjectHandle) -> Result<(Vec<u8>, String), Trouble> {
        let wanted = [AttributeType::Id, AttributeType::Label];
        let attributes = self
            .session()?
            .get_attributes(object, &wanted)
            .map_err(|error| self.trouble(&error))?;
        let (mut id, mut label) = (Vec::new(), String::new());
        for attribute in attributes {
            if let Attribute::Id(bytes) = attribute {
                id = bytes;
            } else if let Attribute::Label(bytes) = attribute {
                label = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        Ok((id, label))
    }

    fn generate(&mut self, key: &KeyObject) -> Result<ObjectHandle, Trouble> {
        // What a crash between the two halves of an earlier try left behind.
        for public in self.objects(key, ObjectClass::PUBLIC_KEY)? {
            self.session()?
                .destroy_object(public)
                .map_err(|error| self.trouble(&error))?;
        }
        let mut refused = None;
        for curve in CURVES {
            let made = self.session()?.generate_key_pair(
                &Mechanism::EccEdwardsKeyPairGen,
                &public_template(key, curve),
                &private_template(key),
            );
            match made {
                Ok((_, private)) => {
                    self.found.insert(key.cka_id, private);
                    return Ok(private);
                }
                Err(error) if names_the_curve_otherwise(&error) => refused = Some(error),
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        let mechanism = match refused {
            Some(error) => format!("the curve Ed25519 ({})", code(&error).1),
            None => "the curve Ed25519".to_owned(),
        };
        Err(self.unsupported(mechanism).into())
    }

    fn sign(&mut self, key: &KeyObject, message: &[u8]) -> Result<Done, Trouble> {
        let private = self.private_key(key)?.ok_or_else(|| self.missing(key))?;
        // Not `Sync`, so made for each use.
        let eddsa = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = match self.session()?.sign(&eddsa, private, message) {
            Ok(signature) => signature,
            Err(Error::Pkcs11(RvError::KeyFunctionNotPermitted, _)) => {
                return Err(Trouble::Problem(TokenProblem::KeyForbidden {
                    token: self.label.clone(),
                    label: key.label.clone(),
                }));
            }
            Err(error) => return Err(self.trouble(&error)),
        };
        let signature = <[u8; 64]>::try_from(signature).map_err(|odd| {
            self.unfit(
                key,
                &format!("it makes signatures of {} bytes, not 64", odd.len()),
            )
        })?;
        Ok(Done::Signed { signature })
    }

    fn forbid(&mut self, key: &KeyObject) -> Result<Done, Trouble> {
        let Some(private) = self.private_key(key)? else {
            return Ok(Done::Forbidden);
        };
        if self.set_sign(private, false)? {
            Ok(Done::Forbidden)
        } else {
            Err(self.unfit(key, "the token did not switch CKA_SIGN off"))
        }
    }

    fn permit(&mut self, key: &KeyObject) -> Result<Done, Trouble> {
        let private = self.private_key(key)?.ok_or_else(|| self.missing(key))?;
        if self.set_sign(private, true)? {
            Ok(Done::Permitted)
        } else {
            Err(self.unfit(key, "the token did not switch CKA_SIGN on"))
        }
    }

    /// Whether the token now says so of the key: its word on the change alone is not enough.
    fn set_sign(&self, private: ObjectHandle, may: bool) -> Result<bool, Trouble> {
        self.session()?
            .update_attributes(private, &[Attribute::Sign(may)])
            .map_err(|error| self.trouble(&error))?;
        Ok(self.flag(private, AttributeType::Sign)? == Some(may))
    }

    fn missing(&self, key: &KeyObject) -> TokenProblem {
        TokenProblem::KeyMissing {
            token: self.label.clone(),
            label: key.label.clone(),
        }
    }

    fn destroy(&mut self, key: &KeyObject) -> Result<Done, Trouble> {
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            for object in self.objects(key, class)? {
                self.session()?
                    .destroy_object(object)
                    .map_err(|error| self.trouble(&error))?;
            }
        }
        self.found.remove(&key.cka_id);
        if self.objects(key, ObjectClass::PRIVATE_KEY)?.is_empty() {
            Ok(Done::Destroyed)
        } else {
            Err(self.unfit(key, "the token did not remove it"))
        }
    }

    fn private_key(&mut self, key: &KeyObject) -> Result<Option<ObjectHandle>, Trouble> {
        if let Some(known) = self.found.get(&key.cka_id) {
            return Ok(Some(*known));
        }
        let objects = self.objects(key, ObjectClass::PRIVATE_KEY)?;
        match objects.as_slice() {
            [] => Ok(None),
            [one] => {
                self.found.insert(key.cka_id, *one);
                Ok(Some(*one))
            }
            [_, _, ..] => Err(self.unfit(key, "there are several of the same CKA_ID")),
        }
    }

    fn objects(&self, key: &KeyObject, class: ObjectClass) -> Result<Vec<ObjectHandle>, Trouble> {
        let template = [
            Attribute::Token(true),
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Id(key.cka_id.to_vec()),
            Attribute::Label(key.label.clone().into_bytes()),
        ];
        self.session()?
            .find_objects(&template)
            .map_err(|error| self.trouble(&error))
    }

    /// A key that could leave the token is not used.
    fn check_confined(&self, key: &KeyObject, private: ObjectHandle) -> Result<(), Trouble> {
        let wanted = [
            (AttributeType::Sensitive, true),
            (AttributeType::Extractable, false),
        ];
        for (attribute, value) in wanted {
            if self.flag(private, attribute)? != Some(value) {
                let reason = format!("{attribute} is not {value}: the key could leave the token");
                return Err(self.unfit(key, &reason));
            }
        }
        Ok(())
    }

    fn flag(&self, object: ObjectHandle, wanted: AttributeType) -> Result<Option<bool>, Trouble> {
        let attributes = self
            .session()?
            .get_attributes(object, &[wanted])
            .map_err(|error| self.trouble(&error))?;
        Ok(attributes.iter().find_map(|attribute| {
            if let Attribute::Sensitive(value)
            | Attribute::Local(value)
            | Attribute::AlwaysSensitive(value)
            | Attribute::NeverExtractable(value)
            | Attribute::Extractable(value)
            | Attribute::Sign(value) = attribute
            {
                Some(*value)
            } else {
                None
            }
        }))
    }

    fn public_point(&self, key: &KeyObject, public: ObjectHandle) -> Result<[u8; 32], Trouble> {
        let attributes = self
            .session()?
            .get_attributes(public, &[AttributeType::EcPoint])
            .map_err(|error| self.trouble(&error))?;
        let point = attributes.iter().find_map(|attribute| {
            if let Attribute::EcPoint(point) = attribute {
                Some(point.as_slice())
            } else {
                None
            }
        });
        let point = point.unwrap_or_default();
        // Some tokens leave the OCTET STRING around the point out.
        let raw = point.strip_prefix(&POINT_PREFIX).unwrap_or(point);
        <[u8; 32]>::try_from(raw)
            .map_err(|_| self.unfit(key, &format!("its public point has {} bytes", point.len())))
    }

    fn trouble(&self, error: &Error) -> Trouble {
        if is_lost(error) {
            return Trouble::Lost;
        }
        Trouble::Problem(if is_unsupported(error) {
            self.unsupported(code(error).1)
        } else {
            failed(&self.label, error)
        })
    }

    fn unsupported(&self, mechanism: String) -> TokenProblem {
        TokenProblem::MechanismUnsupported {
            token: self.label.clone(),
            mechanism,
        }
    }

    fn unfit(&self, key: &KeyObject, reason: &str) -> Trouble {
        Trouble::Problem(TokenProblem::KeyUnfit {
            token: self.label.clone(),
            label: key.label.clone(),
            reason: reason.to_owned(),
        })
    }
}

fn initialize(module: &Pkcs11) -> Result<(), Error> {
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    match module.initialize(threads) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn log_in(
    module: &Pkcs11,
    label: &str,
    pin: &AuthPin,
) -> Result<(Session, TokenFacts), TokenProblem> {
    let (slot, info) = find(module, label)?;
    check_pin_tries(label, &info)?;
    let mechanisms = module
        .get_mechanism_list(slot)
        .map_err(|error| failed(label, &error))?;
    for (wanted, name) in [
        (MechanismType::EDDSA, "CKM_EDDSA"),
        (
            MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
            "CKM_EC_EDWARDS_KEY_PAIR_GEN",
        ),
    ] {
        if !mechanisms.contains(&wanted) {
            return Err(TokenProblem::MechanismUnsupported {
                token: label.to_owned(),
                mechanism: name.to_owned(),
            });
        }
    }
    let hardware = module
        .get_slot_info(slot)
        .is_ok_and(|info| info.hardware_slot());
    let session = module
        .open_rw_session(slot)
        .map_err(|error| failed(label, &error))?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => return Err(login_problem(label, &error)),
    }
    let facts = TokenFacts {
        label: label.to_owned(),
        serial: info.serial_number().to_owned(),
        hardware,
    };
    Ok((session, facts))
}

/// The one slot whose token has this label. A slot that does not answer holds no token that could be used.
fn find(module: &Pkcs11, label: &str) -> Result<(Slot, TokenInfo), TokenProblem> {
    let slots = module
        .get_slots_with_token()
        .map_err(|error| failed(label, &error))?;
    let mut matching: Vec<(Slot, TokenInfo)> = slots
        .into_iter()
        .filter_map(|slot| Some((slot, module.get_token_info(slot).ok()?)))
        .filter(|(_, info)| info.token_initialized() && info.label() == label)
        .collect();
    let count = matching.len();
    match (matching.pop(), count) {
        (Some(one), 1) => Ok(one),
        (None, _) => Err(TokenProblem::TokenAbsent {
            token: label.to_owned(),
        }),
        (Some(_), count) => Err(TokenProblem::TokenAmbiguous {
            token: label.to_owned(),
            count,
        }),
    }
}

fn check_pin_tries(label: &str, info: &TokenInfo) -> Result<(), TokenProblem> {
    let token = label.to_owned();
    if info.user_pin_locked() {
        Err(TokenProblem::PinLocked { token })
    } else if info.user_pin_final_try() {
        Err(TokenProblem::PinLastTry { token })
    } else {
        Ok(())
    }
}

fn public_template(key: &KeyObject, curve: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(key.cka_id.to_vec()),
        Attribute::Label(key.label.clone().into_bytes()),
        Attribute::EcParams(curve.to_vec()),
        Attribute::Verify(true),
    ]
}

/// A key that signs, does nothing else, and never leaves.
fn private_template(key: &KeyObject) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Id(key.cka_id.to_vec()),
        Attribute::Label(key.label.clone().into_bytes()),
        Attribute::Sign(true),
        Attribute::SignRecover(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}
