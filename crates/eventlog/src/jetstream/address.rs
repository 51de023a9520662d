//! Server addresses as people write them: where to connect, as whom, and what may be shown of it.

use async_nats::ServerAddr;

use crate::config::{Auth, OpenError};

/// The servers of a log.
pub(super) struct Addresses {
    /// Where to connect.
    pub(super) servers: Vec<ServerAddr>,
    /// `scheme://host:port` of each: never a password.
    pub(super) shown: String,
}

impl Addresses {
    /// Reads addresses separated by commas.
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        let mut servers = Vec::new();
        let mut shown = Vec::new();
        for text in url.split(',').map(str::trim) {
            let server = text
                .parse::<ServerAddr>()
                .map_err(|error| OpenError::Invalid {
                    reason: format!(
                        "`{}` is no NATS address ({error}): write nats://host:port",
                        text.rsplit('@').next().unwrap_or_default()
                    ),
                })?;
            let scheme = if server.tls_required() { "tls" } else { "nats" };
            shown.push(format!("{scheme}://{}:{}", server.host(), server.port()));
            servers.push(server);
        }
        Ok(Self {
            servers,
            shown: shown.join(","),
        })
    }

    /// User and password of the first address that names them, for a caller who has no other
    /// credentials. They are taken as they stand: no `%xx` is decoded.
    pub(super) fn auth(&self) -> Auth {
        self.servers
            .iter()
            .find_map(|server| {
                Some(Auth::User {
                    user: server.username()?.to_owned(),
                    password: server.password().unwrap_or_default().to_owned(),
                })
            })
            .unwrap_or(Auth::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_from_the_address_and_never_shown() {
        let addresses = Addresses::parse("tls://sealing:s3cr3t@a.example:4443, nats://b").unwrap();
        assert_eq!(addresses.shown, "tls://a.example:4443,nats://b:4222");
        let Auth::User { user, password } = addresses.auth() else {
            panic!("no user")
        };
        assert_eq!((user.as_str(), password.as_str()), ("sealing", "s3cr3t"));
        assert!(matches!(
            Addresses::parse("nats://b").unwrap().auth(),
            Auth::None
        ));
        let error = Addresses::parse("nats://u:s3cr3t@b:port").err().unwrap();
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
}
