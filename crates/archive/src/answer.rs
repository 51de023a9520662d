//! What an object store's error says: that an object is not there, that it is not given, or nothing at all.

/// What an error comes to.
pub(crate) enum Answer {
    /// The store says that there is no such object. (So does an S3 server that has no such bucket: see [`crate::Identity`].)
    NotThere,
    /// The store says that it will not give this object; why.
    No(String),
    /// It says nothing of the object: it cannot be reached, is overloaded, does not know us, or broke off; why.
    None(String),
}

/// Reads an error.
pub(crate) fn of(error: &object_store::Error) -> Answer {
    use object_store::Error as E;
    if matches!(error, E::NotFound { .. }) {
        return Answer::NotThere;
    }
    // All others, also those that the library may add, are no word on the object.
    if matches!(error, E::PermissionDenied { .. } | E::InvalidPath { .. }) {
        return Answer::No(words(error));
    }
    Answer::None(words(error))
}

/// The reason in words: an S3 server's own code and message where it sent some, else the whole chain of causes.
pub(crate) fn words(error: &object_store::Error) -> String {
    let mut chain = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        let text = one.to_string();
        if !chain.contains(&text) {
            chain = format!("{chain}: {text}");
        }
        cause = one.source();
    }
    match (tag(&chain, "Code"), tag(&chain, "Message")) {
        (Some(code), Some(message)) => {
            format!(
                "the server answers {code}: {}",
                message.trim_end_matches('.')
            )
        }
        (Some(code), None) => format!("the server answers {code}"),
        (None, _) => chain,
    }
}

fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    (!inside.is_empty() && !inside.contains('<')).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_own_words_are_found_in_its_answer() {
        let said = |body: &str| {
            words(&object_store::Error::Generic {
                store: "S3",
                source: body.into(),
            })
        };
        assert_eq!(
            said(
                "403: <?xml?><Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"
            ),
            "the server answers InvalidAccessKeyId: No such key"
        );
        assert_eq!(said("<Code>SlowDown</Code>"), "the server answers SlowDown");
        assert!(said("connection refused").contains("connection refused"));
        assert!(said("<Code><Message>").contains("<Code>"));
    }
}
