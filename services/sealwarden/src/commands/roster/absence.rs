//! Saying that somebody is away.

use sealwarden_domain::approval::Environment;
use sealwarden_domain::roster::absence_text;
use sealwarden_wire::event::v1::PersonAway;
use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::runs_client::RunsClient;
use serde_json::json;

use super::SigningKey;
use crate::cli::{Cli, Signing};
use crate::client::Traced;
use crate::commands::{Answer, time_argument};
use crate::failure::{Ending, Failure};
use crate::output;

/// What is said, as on the command line.
pub(super) struct Said<'a> {
    pub(super) person: &'a str,
    /// Now, if it is not said.
    pub(super) from: Option<&'a str>,
    /// `None`: they are back.
    pub(super) until: Option<&'a str>,
    pub(super) why: &'a str,
}

/// Shows what is said, asks, signs and sends. Ends with 1 if there is something that nobody could decide meanwhile.
pub(super) async fn say(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    roster: &wire::Roster,
    said: &Said<'_>,
    signing: &Signing,
) -> Answer {
    let mine = SigningKey::find(cli, signing)?;
    let me = super::signer(roster, &mine)?;
    let environment = Environment::parse(&roster.environment).ok_or_else(|| {
        let named = &roster.environment;
        Failure::refused(format!("the server names an unknown environment {named:?}"))
    })?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let time = |name, text: Option<&str>| text.map(|text| time_argument(name, text)).transpose();
    let from_ms = time("from", said.from)?.unwrap_or(now_ms);
    let until_ms = time("until", said.until)?.unwrap_or(from_ms);
    if said.until.is_some() && until_ms <= from_ms {
        return Err(Failure::usage(
            "--until lies before the absence begins; give a later time, or --back",
        ));
    }
    let mut away = PersonAway {
        person: said.person.to_owned(),
        from_ms,
        until_ms,
        said_ms: now_ms,
        reason: said.why.to_owned(),
        by: me.person.clone(),
        signature: String::new(),
    };
    let text = absence_text((&roster.installation, environment), &away);
    let namespace = environment.namespace();
    if !cli.json || !signing.yes {
        output::complain(&format!(
            "The statement to sign (SSHSIG, namespace {namespace}):\n{text}"
        ));
    }
    if !signing.yes && !output::confirmed(&format!("Sign this as {}?", me.name)) {
        return Err(Failure::usage("not signed: nothing was sent"));
    }
    away.signature = mine.sign(&text, namespace)?;
    let request = wire::SayAwayRequest {
        person: away.person.clone(),
        from_ms,
        until_ms,
        said_ms: now_ms,
        reason: away.reason,
        by: away.by.clone(),
        signature: away.signature,
    };
    let unmet = runs.say_away(request).await?.into_inner().unmet;
    if cli.json {
        output::json(&json!({
            "person": away.person, "from_ms": from_ms, "until_ms": until_ms, "by": away.by, "unmet": unmet,
        }));
    } else {
        let until = if until_ms > from_ms {
            format!("is away until {}", output::time(until_ms))
        } else {
            "is back".to_owned()
        };
        output::line(&format!("recorded: {} {until}", away.person));
        for unmet in &unmet {
            output::line(&format!("NOBODY CAN DECIDE, {unmet}"));
        }
    }
    Ok(if unmet.is_empty() {
        Ending::Good
    } else {
        Ending::Negative
    })
}
