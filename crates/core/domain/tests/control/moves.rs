//! What may happen to a log, at random.

use proptest::prelude::*;
use sealwarden_wire::event::v1::DirectiveKind;

/// One thing that somebody does. Nodes and grantors are named by index, origins and epochs counted back from the newest.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Pass(u64),
    Request(usize),
    Renew(usize, usize, u64),
    Grant(usize, usize),
    RestartNode(usize),
    RestartGrantor(usize),
    Release(usize),
    Intend {
        node: usize,
        grow: u64,
        root: u8,
        stale: bool,
        reseal: Option<u64>,
    },
    Publish(u8),
    Hold(u8, i64),
    Issue(DirectiveKind, usize),
    Answer {
        node: usize,
        epoch: u64,
        refuse: bool,
        open: bool,
    },
    Fence(usize, u64),
    Isolate(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    let node = 0..2_usize;
    // Counted back from the newest.
    let epoch = prop_oneof![6 => Just(0_u64), 2 => 1..3_u64, 1 => Just(9)];
    let kind = prop_oneof![
        Just(DirectiveKind::IsolateKey),
        Just(DirectiveKind::ReadOnly),
        Just(DirectiveKind::RotateOrigin),
        Just(DirectiveKind::Reseal),
        Just(DirectiveKind::Open),
        Just(DirectiveKind::Queue),
        Just(DirectiveKind::QueueNoncritical),
    ];
    prop_oneof![
        3 => prop_oneof![0..700_u64, Just(5_000), Just(5_399), Just(5_500)].prop_map(Move::Pass),
        1 => node.clone().prop_map(Move::Request),
        6 => (node.clone(), node.clone(), 0..100_u64).prop_map(|(n, g, ms)| Move::Renew(n, g, ms)),
        1 => (node.clone(), node.clone()).prop_map(|(n, g)| Move::Grant(n, g)),
        1 => node.clone().prop_map(Move::RestartNode),
        1 => node.clone().prop_map(Move::RestartGrantor),
        1 => node.clone().prop_map(Move::Release),
        4 => (node.clone(), 0..3_u64, 0..2_u8, any::<bool>(), proptest::option::of(epoch.clone()))
            .prop_map(|(node, grow, root, stale, reseal)| Move::Intend { node, grow, root, stale, reseal }),
        1 => (0..2_u8).prop_map(Move::Publish),
        1 => (0..3_u8, -10..3_000_i64).prop_map(|(signal, ms)| Move::Hold(signal, ms)),
        2 => (kind, 0..3_usize).prop_map(|(kind, origin)| Move::Issue(kind, origin)),
        4 => (node.clone(), epoch.clone(), proptest::bool::weighted(0.1), any::<bool>())
            .prop_map(|(node, epoch, refuse, open)| Move::Answer { node, epoch, refuse, open }),
        6 => (node, epoch.clone()).prop_map(|(grantor, epoch)| Move::Fence(grantor, epoch)),
        1 => epoch.prop_map(Move::Isolate),
    ]
}

/// A story.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Move>> {
    proptest::collection::vec(moves(), 1..100)
}
