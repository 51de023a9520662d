//! Mail over SMTP.
//!
//! Repetitions have the same Message-ID, which stores of mail that look at it keep once; SMTP itself has no such promise, so a mail may arrive twice.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sealwarden_anchors::outside::reasons;

use crate::http::{roots, secret};
use crate::message::{Message, Outcome, one_line};
use crate::settings::{Mail, MailTls};

/// The longest subject, characters.
const MAX_SUBJECT: usize = 200;

/// An address with or without a name; nothing in it can end a header line.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    text.parse::<Mailbox>().map_err(|error| error.to_string())
}

/// Sends it.
pub(crate) async fn send(mail: &Mail, message: &Message) -> Outcome {
    let ready = async {
        let letter = letter(mail, message)?;
        let transport = transport(mail).await?;
        Ok::<_, String>((letter, transport))
    };
    let (letter, transport) = match ready.await {
        Ok(ready) => ready,
        Err(reason) => return Outcome::NotSent(reason),
    };
    // The transport's own time-out is one for each line of the conversation.
    let deadline = Duration::from_millis(mail.timeout_ms);
    match tokio::time::timeout(deadline, transport.send(letter)).await {
        Err(_elapsed) => Outcome::Unknown(format!(
            "the mail server did not answer within {} ms",
            mail.timeout_ms
        )),
        Ok(Ok(response)) => {
            let said = response.message().collect::<Vec<_>>().join(" ");
            Outcome::Delivered(format!(
                "it answered {} {}",
                response.code(),
                one_line(said.as_bytes())
            ))
        }
        Ok(Err(error)) => {
            let reason = one_line(reasons(&error).as_bytes());
            if error.is_permanent() {
                Outcome::Refused(reason)
            } else if error.is_transient() || error.is_tls() {
                // It took no mail; another time it may.
                Outcome::NotSent(reason)
            } else {
                Outcome::Unknown(reason)
            }
        }
    }
}

fn letter(mail: &Mail, message: &Message) -> Result<lettre::Message, String> {
    let mut builder: MessageBuilder = lettre::Message::builder()
        .from(mailbox(&mail.from)?)
        .message_id(Some(message_id(&message.key, &message.source)))
        .subject(message.title.chars().take(MAX_SUBJECT).collect::<String>())
        .header(ContentType::TEXT_PLAIN);
    let readers: Vec<&str> = match &message.to {
        Some(to) => vec![to],
        None => mail.to.iter().map(String::as_str).collect(),
    };
    if readers.is_empty() {
        return Err("the settings name no readers: add `to`".to_owned());
    }
    for reader in readers {
        builder = builder.to(mailbox(reader)?);
    }
    builder
        .body(message.text.clone())
        .map_err(|error| reasons(&error))
}

/// `<key@source>`, the same for each repetition. Format: RFC 5322, 3.6.4, `dot-atom-text` on both sides.
fn message_id(key: &str, source: &str) -> String {
    let atom = |text: &str| -> String {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '+');
        let chars = text.chars().map(|c| if good(c) { c } else { '-' });
        chars.collect()
    };
    format!("<{}@{}.sealwarden>", atom(key), atom(source))
}

async fn transport(mail: &Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let tls = match mail.tls {
        MailTls::None => Tls::None,
        MailTls::Implicit => Tls::Wrapper(parameters(mail).await?),
        MailTls::Starttls => Tls::Required(parameters(mail).await?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(Duration::from_millis(mail.timeout_ms)));
    if let (Some(user), Some(file)) = (&mail.user, &mail.password_file) {
        let password = secret(file).await?;
        builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
    }
    Ok(builder.build())
}

async fn parameters(mail: &Mail) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(pem) = roots(mail.tls_roots.as_ref()).await? {
        builder = builder.certificate_store(CertificateStore::None);
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            let certificate = Certificate::from_der(certificate.to_vec());
            let certificate = certificate.map_err(|error| reasons(&error))?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    // Reading the system's authorities takes a while.
    tokio::task::spawn_blocking(move || builder.build())
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| reasons(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Page;

    fn mail() -> Mail {
        serde_json::from_value(serde_json::json!({
            "host": "127.0.0.1", "port": 25, "tls": "none", "from": "Sealwarden <s@example.com>", "to": ["a@example.com", "b@example.com"],
        }))
        .unwrap()
    }

    fn message(title: &str) -> Message {
        Message {
            key: "acme/I-1/2/leader ship".to_owned(),
            matter: "I-1".to_owned(),
            title: title.to_owned(),
            text: "Zeile\n.\nnoch eine\n".to_owned(),
            severity: String::new(),
            source: "acme.example".to_owned(),
            page: Page::None,
            to: None,
        }
    }

    #[test]
    fn a_letter_has_a_stable_id_and_what_strangers_wrote_adds_no_header() {
        let text = |title: &str| {
            let letter = letter(&mail(), &message(title)).unwrap();
            String::from_utf8(letter.formatted()).unwrap()
        };
        let first = text("Überfall");
        assert!(
            first.contains("Message-ID: <acme/I-1/2/leader-ship@acme-example.sealwarden>"),
            "{first}"
        );
        assert!(
            first.contains("To: a@example.com, b@example.com"),
            "{first}"
        );
        let odd = text("x\r\nBcc: all@example.com");
        let (head, _) = odd.split_once("\r\n\r\n").unwrap();
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    }

    #[test]
    fn a_person_is_written_to_instead_of_the_list() {
        let mut message = message("x");
        message.to = Some("one@example.com".to_owned());
        let text = String::from_utf8(letter(&mail(), &message).unwrap().formatted()).unwrap();
        assert!(
            text.contains("To: one@example.com") && !text.contains("a@example.com"),
            "{text}"
        );
        let mut nobody = mail();
        nobody.to.clear();
        message.to = None;
        assert!(
            letter(&nobody, &message)
                .unwrap_err()
                .contains("no readers")
        );
    }
}
