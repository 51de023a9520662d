//! The table of actions agrees with itself.

use super::*;

#[test]
fn every_action_is_found_by_its_name_and_describes_itself() {
    for action in Action::ALL {
        assert_eq!(action.spec().action, action);
        assert_eq!(Action::from_name(action.name()), Some(action));
        assert!(!action.spec().observed.is_empty() && !action.spec().summary.is_empty());
    }
    assert_eq!(Action::from_name("destroy-everything"), None);
}

#[test]
fn what_cannot_be_taken_back_needs_a_snapshot() {
    for action in Action::ALL {
        if action.spec().effect == Effect::Destructive {
            assert!(action.spec().needs_snapshot, "{action}");
        }
    }
}

#[test]
fn each_directive_kind_has_one_action() {
    for kind in DirectiveKind::ALL {
        let senders = Action::ALL
            .iter()
            .filter(|a| a.spec().directive(Some(kind.as_str())) == Some(kind))
            .count();
        assert_eq!(senders, 1, "{kind}");
        assert!(kind.action().spec().directives.contains(&kind), "{kind}");
        assert_eq!(DirectiveKind::from_name(kind.as_str()), Some(kind));
    }
}

#[test]
fn values_are_checked_against_their_type() {
    assert!(ValueType::Time.accepts("2026-11-02T10:00:00Z"));
    assert!(!ValueType::Time.accepts("yesterday"));
    assert!(ValueType::Count.accepts("0") && !ValueType::Count.accepts("-1"));
    assert!(!ValueType::Count.accepts("+1") && !ValueType::Count.accepts(""));
    assert!(ValueType::Mode.accepts("queue") && ValueType::Mode.accepts("queue-noncritical"));
    assert!(!ValueType::Mode.accepts("open") && !ValueType::Mode.accepts(""));
}
