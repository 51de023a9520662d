//! What a user, a stranger, a thief and a crash see of the real binary.
#![expect(
    clippy::expect_used,
    reason = "a scenario that cannot go on fails, and says where"
)]

mod scenarios {
    mod approvals;
    mod approvals_at_once;
    mod archive;
    mod archive_away;
    mod archive_denied;
    mod archive_large;
    mod archive_odd;
    mod archive_s3;
    mod archive_slow;
    mod audit;
    mod bench;
    mod bulk;
    mod certificates;
    mod client;
    mod communication;
    mod conditions;
    mod crash;
    mod custody;
    mod damage;
    mod deployed;
    mod detectors;
    mod drill;
    mod duties;
    mod erasing;
    mod evidence_given;
    mod executors;
    mod exports;
    mod failover_load;
    mod faulty_signer;
    mod fido;
    mod handover;
    mod integrity;
    mod key_changes;
    mod key_orders;
    mod kms_audit;
    mod learning;
    mod measures;
    mod mirror;
    mod notices;
    mod operators;
    mod outside;
    mod outside_alerts;
    mod ownership;
    mod partition;
    mod playbooks;
    mod poisoned;
    mod queue;
    mod retries;
    mod roster;
    mod sealing;
    mod strangers;
    mod tampered;
    mod tenants;
    mod theft;
    mod token;
    mod transit;
    mod undo;
    mod vendors;
    mod verdicts;
    mod verifiers;
    mod webhooks;
}
