//! The text of C2SP tlog-policy.

use super::payload::{group, tree};
use super::*;
use crate::policy::{Policy, PolicyError};
use crate::trust::{FORMAT_2, LogState, NO_QUORUM, Threshold};
use proptest::prelude::*;

fn lines() -> Vec<String> {
    let w = |n: u8| witness_vkey(n);
    vec![
        format!("log {} https://log.example/", log_vkey()),
        format!("witness X1 {}", w(20)),
        format!("witness X2 {} https://x2.example", w(21)),
        format!("witness X3 {}", ml_dsa_vkey("x3", 22)),
        "group X-witnesses 2 X1 X2 X3".into(),
        format!("witness Y1 {}", w(23)),
        "group X-and-Y all X-witnesses Y1".into(),
        "quorum X-and-Y".into(),
    ]
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn error(text: &str) -> PolicyError {
    Policy::parse(text.as_bytes()).unwrap_err()
}

#[test]
fn a_policy_is_read_with_comments_and_white_space_and_written_in_one_spelling() {
    let plain = Policy::parse(text(&lines()).as_bytes()).unwrap();
    assert_eq!(plain.logs[0].url.as_deref(), Some("https://log.example/"));
    assert_eq!(plain.witnesses.len(), 4);
    assert_eq!(plain.quorum.groups[0].threshold, Threshold::Members(2));
    let loose = lines()
        .iter()
        .map(|line| line.replace(' ', " \t "))
        .collect::<Vec<_>>()
        .join(" \t\n \t# comment é\n\n\t ")
        + "\n";
    assert_eq!(Policy::parse(loose.as_bytes()).unwrap(), plain);
    let written = plain.to_string();
    assert_eq!(Policy::parse(written.as_bytes()).unwrap(), plain);
    assert_eq!(
        Policy::parse(written.as_bytes()).unwrap().to_string(),
        written
    );
}

#[test]
fn each_mistake_names_its_line() {
    let change = |place: usize, line: &str| {
        let mut lines = lines();
        lines[place] = line.to_owned();
        error(&text(&lines))
    };
    let vkey = witness_vkey(24);
    for (place, line, words) in [
        (0, "log".to_owned(), "is none of"),
        (0, format!("log {} a b", log_vkey()), "is none of"),
        (0, format!("log {vkey}"), "logs have 01 or 06"),
        (0, "log n+00000000+AAAA".into(), "n"),
        (0, "Log x".into(), "is none of"),
        (1, format!("witness none {vkey}"), "cannot be a name"),
        (1, format!("witness X1 {}", log_vkey()), "04 or 06"),
        (2, format!("witness X1 {vkey}"), "given twice"),
        (2, format!("witness X2 {}", witness_vkey(20)), "count twice"),
        (4, "group X-witnesses".into(), "is none of"),
        (4, "group X-witnesses 2".into(), "2 of its 0"),
        (4, "group X-witnesses all".into(), "no members"),
        (4, "group X-witnesses 4 X1 X2 X3".into(), "4 of its 3"),
        (4, "group X-witnesses 0 X1 X2 X3".into(), "0 of its 3"),
        (4, "group X-witnesses 02 X1 X2 X3".into(), "leading zeroes"),
        (4, "group X-witnesses +2 X1 X2 X3".into(), "threshold"),
        (4, "group X-witnesses 2 X1 X1 X3".into(), "member twice"),
        (4, "group X-witnesses 1 Y1".into(), "earlier line"),
        (4, "group X-witnesses 1 none".into(), "earlier line"),
        (
            4,
            "group X-witnesses any X-witnesses".into(),
            "earlier line",
        ),
        (6, "group X-and-Y all X-witnesses X1".into(), "member twice"),
        (7, "quorum nobody".into(), "not none"),
        (7, "quorum".into(), "is none of"),
        (7, "quorum none\nquorum none".into(), "second quorum"),
        (3, "# \u{7f}".into(), "0x7f"),
        (3, "\r".into(), "0x0d"),
    ] {
        let found = change(place, &line);
        assert!(found.reason.contains(words), "{line}: {found}");
        let expected = place + 1 + line.matches('\n').count();
        assert_eq!(found.line, expected, "{line}: {found}");
    }
    let mut without = lines();
    without.pop();
    assert!(error(&text(&without)).reason.contains("quorum none"));
    assert_eq!(error("").line, 1);
    assert!(
        error(text(&lines()).trim_end())
            .reason
            .contains("cut short")
    );
    let bytes = [b"quorum none\n".as_slice(), b"# \xff\n"].concat();
    assert_eq!(Policy::parse(&bytes).unwrap_err().line, 2);
    assert!(Policy::parse(&vec![b'\n'; 2 << 20]).is_err());
    Policy::parse(b"quorum none\n").unwrap();
}

#[test]
fn a_bundle_is_written_as_the_policy_it_means() {
    let mut payload = payload();
    payload.format = FORMAT_2.into();
    payload.witnesses[1].other_vkeys = vec![ml_dsa_vkey("w3.pq", 81)];
    let mut frozen = payload.logs[0].clone();
    frozen.origin = "seal.example.com/main/0".into();
    frozen.vkeys = vec![Vkey::ed25519(&frozen.origin, public(60)).unwrap()];
    frozen.state = LogState::Retired;
    payload.logs.push(frozen);
    let policy = Policy::of(&payload).unwrap();
    let again = Policy::parse(policy.to_string().as_bytes()).unwrap();
    assert_eq!(again, policy);
    assert_eq!(policy.logs.len(), 1, "only logs that grow");
    let met = |names: &[&str]| {
        Quorum::Tree(policy.quorum.clone()).is_met(&names.iter().copied().collect())
    };
    assert!(met(&["w2", "w3#1"]) && met(&["w2", "w3#2"]));
    assert!(!met(&["w3#1", "w3#2"]) && !met(&["w2"]) && !met(&[]));
    for (quorum, last) in [
        (Quorum::Count(0), "quorum none\n"),
        (tree(NO_QUORUM, vec![]), "quorum none\n"),
        (
            tree("g", vec![group("g", Threshold::Any, &["w2", "w3"])]),
            "group g any w2 w3\nquorum g\n",
        ),
    ] {
        payload.quorum = quorum;
        let text = Policy::of(&payload).unwrap().to_string();
        assert!(text.ends_with(last), "{text}");
        Policy::parse(text.as_bytes()).unwrap();
    }
    payload.witnesses[0].name = "our witness".into();
    assert!(Policy::of(&payload).is_err());
}

proptest! {
    #[test]
    fn any_text(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(Policy::parse(&bytes));
    }

    #[test]
    fn damaged_policies(
        from in any::<prop::sample::Index>(), length in 0_usize..20,
        patch in "[ \t\n#a-zX0-9+]{0,12}",
    ) {
        let mut bytes = text(&lines()).into_bytes();
        let from = from.index(bytes.len());
        let to = (from + length).min(bytes.len());
        bytes.splice(from..to, patch.into_bytes());
        if let Ok(policy) = Policy::parse(&bytes) {
            let written = policy.to_string();
            prop_assert_eq!(&Policy::parse(written.as_bytes()).unwrap(), &policy);
            // What is left asks for somebody, unless it says otherwise.
            if policy.quorum.name != NO_QUORUM {
                prop_assert!(!Quorum::Tree(policy.quorum).is_met(&std::collections::BTreeSet::new()));
            }
        }
    }
}
