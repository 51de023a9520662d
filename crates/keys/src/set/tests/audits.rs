//! The audits of all members in one order.

use super::*;
use crate::{faults::Fault, provider::AuditGapKind};

async fn audit(provider: &dyn KeyProvider, from: u64, page: usize) -> Vec<(String, u64)> {
    let (mut cursor, mut all) = (from, Vec::new());
    loop {
        let lines = provider.audit_after(cursor, page).await.unwrap();
        let Some(last) = lines.last() else { return all };
        assert!(last.cursor > cursor, "the cursor grows");
        cursor = last.cursor;
        all.extend(
            lines
                .into_iter()
                .map(|l| (l.entry.unwrap().key.to_string(), l.cursor)),
        );
    }
}

async fn sign(set: &FailoverSet, key: &str) {
    set.sign(&id(key), Purpose::Sealing, b"m").await.unwrap();
}

#[tokio::test]
async fn the_order_survives_restarts_and_begins_where_the_old_audit_was() {
    let world = World::new().await;
    let before = software(world.root.path(), "keys").await;
    before.create(&sealing("old")).await.unwrap();
    for _ in 0..3 {
        let signed = before.sign(&id("old"), Purpose::Sealing, b"m").await;
        signed.unwrap();
    }
    let second = before.audit_after(0, 2).await.unwrap()[1].cursor;

    let set = world.open().await;
    set.create(&in_member("one", "first")).await.unwrap();
    set.create(&in_member("two", "second")).await.unwrap();
    let mut seen = audit(&set, second, 1).await;
    assert_eq!(seen.len(), 1, "the line that had not been copied");
    for key in ["one", "old", "two", "one", "two", "two", "old"] {
        sign(&set, key).await;
        let more = audit(&set, seen.last().unwrap().1, 2).await;
        assert_eq!(more.len(), 1);
        assert_eq!(more[0].0, key);
        seen.extend(more);
    }
    for page in [1, 2, 100] {
        assert_eq!(audit(&set, second, page).await, seen, "page {page}");
    }
    drop(set);
    let set = world.open().await;
    assert_eq!(audit(&set, second, 3).await, seen);
    for key in ["old", "one", "two"] {
        sign(&set, key).await;
    }
    assert_eq!(audit(&set, seen.last().unwrap().1, 1).await.len(), 3);
    let nothing = set.audit_after(seen.last().unwrap().1, 0).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_provider_that_is_added_later_joins_the_same_order() {
    let world = World::new().await;
    let mut smaller = world.config().await;
    smaller.members.truncate(1);
    let set = FailoverSet::open(smaller).await.unwrap();
    set.create(&in_member("one", "first")).await.unwrap();
    sign(&set, "one").await;
    let seen = audit(&set, 0, 10).await;
    drop(set);
    let set = world.open().await;
    set.create(&in_member("two", "second")).await.unwrap();
    sign(&set, "two").await;
    let more = audit(&set, seen.last().unwrap().1, 10).await;
    assert_eq!(more.len(), 1);
    assert_eq!(more[0].0, "two");
    assert_eq!(audit(&set, 0, 10).await, [seen, more].concat());
}

fn silence(provider: &str) -> AuditGap {
    AuditGap {
        provider: provider.to_owned(),
        kind: AuditGapKind::Silent,
        since_ms: 7,
        uses: Vec::new(),
        count: 2,
        evidence: String::new(),
    }
}

/// A provider whose audit hangs.
struct SilentAudit(Arc<dyn KeyProvider>);

#[async_trait]
impl KeyProvider for SilentAudit {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        self.0.create(key).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.0.info(id).await
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.0.list().await
    }

    async fn sign(&self, id: &KeyId, p: Purpose, m: &[u8]) -> Result<Signature, KeyError> {
        self.0.sign(id, p, m).await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.0.disable(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.0.destroy(id).await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.0.restore(id).await
    }

    async fn audit_after(&self, _: u64, _: usize) -> Result<Vec<AuditLine>, KeyError> {
        std::future::pending().await
    }

    async fn audit_gaps(&self, _: Duration) -> Result<Vec<AuditGap>, KeyError> {
        Ok(vec![silence(self.name())])
    }
}

#[tokio::test]
async fn an_audit_that_cannot_be_read_keeps_no_other_one_back_and_gaps_name_the_member() {
    let mut world = World::new().await;
    let mute = SilentAudit(software(world.root.path(), "mute").await);
    world.members[0] = member("mute", Arc::new(mute));
    world.members[0].deadline = Duration::from_millis(50);
    let set = world.open().await;
    set.create(&in_member("two", "second")).await.unwrap();
    sign(&set, "two").await;
    let lines = set.audit_after(0, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    let nothing_new = set.audit_after(lines[0].cursor, 10).await.unwrap_err();
    assert!(
        nothing_new
            .to_string()
            .contains("the audit of mute was not read within 50 ms"),
        "{nothing_new}"
    );
    assert_eq!(
        set.audit_gaps(Duration::ZERO).await.unwrap(),
        [silence("mute")]
    );
}

#[tokio::test]
async fn a_torn_step_is_forgotten_and_a_shortened_order_is_corruption() {
    let world = World::new().await;
    let set = world.open().await;
    set.create(&sealing("k")).await.unwrap();
    for _ in 0..2 {
        sign(&set, "k").await;
    }
    let seen = audit(&set, 0, 10).await;
    let path = world.root.path().join("set/audit.order");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole, [1, 2, 3].as_slice()].concat()).unwrap();
    assert_eq!(audit(&set, 0, 10).await, seen);
    sign(&set, "k").await;
    assert_eq!(audit(&set, 0, 10).await.len(), 3);
    std::fs::write(&path, &whole[..32]).unwrap();
    let result = set.audit_after(seen[1].1, 1).await;
    assert!(
        matches!(result, Err(KeyError::Corrupt { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn lines_that_somebody_removed_are_unclear_and_keep_no_others_back() {
    let world = World::new().await;
    let set = world.open().await;
    set.create(&in_member("one", "first")).await.unwrap();
    for _ in 0..2 {
        sign(&set, "one").await;
    }
    let seen = audit(&set, 0, 10).await;
    drop(set);
    let path = world.root.path().join("first/audit.log");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!(" {whole}")).unwrap();
    let set = world.open().await;
    let lines = set.audit_after(0, 10).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.entry.is_err()), "{lines:?}");
    let after = set.audit_after(seen[1].1, 10).await;
    assert!(after.is_err(), "that file is not what was read: {after:?}");
    std::fs::write(&path, whole).unwrap();
    sign(&set, "one").await;
    assert_eq!(audit(&set, seen[1].1, 10).await.len(), 1);
}

#[tokio::test]
async fn the_order_of_an_earlier_version_is_taken_over_with_its_cursors() {
    let world = World::new().await;
    let others = software(world.root.path(), "keys").await;
    let first = software(world.root.path(), "first").await;
    others.create(&sealing("old")).await.unwrap();
    first.create(&sealing("one")).await.unwrap();
    let sign = async |provider: &Arc<dyn KeyProvider>, key: &str| {
        let signed = provider.sign(&id(key), Purpose::Sealing, b"m").await;
        signed.unwrap();
        let lines = provider.audit_after(0, 10).await.unwrap();
        lines.last().unwrap().cursor
    };
    let base = sign(&others, "old").await;
    let (one, old, two) = (
        sign(&first, "one").await,
        sign(&others, "old").await,
        sign(&first, "one").await,
    );
    // As an earlier version wrote it: both cursors after each of three lines.
    let mut content = [b"swmerge1".as_slice(), &base.to_be_bytes()].concat();
    for (mine, theirs) in [(one, base), (one, old), (two, old)] {
        content.extend([mine.to_be_bytes(), theirs.to_be_bytes()].concat());
    }
    let earlier = world.root.path().join("first/audit.order");
    std::fs::write(&earlier, content).unwrap();
    let set = FailoverSet::open(SetConfig {
        earlier: Some(EarlierOrder {
            path: earlier,
            sealing: "first".to_owned(),
        }),
        ..world.config().await
    })
    .await
    .unwrap();
    let keys: Vec<_> = audit(&set, base, 10).await;
    let expected = [("one", 1), ("old", 2), ("one", 3)];
    let expected = expected.map(|(key, steps)| (key.to_owned(), base + steps));
    assert_eq!(keys, expected);
    world.faults[1].set(Fault::None);
}
