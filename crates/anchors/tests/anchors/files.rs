use super::support::{NOW_MS, ORIGIN, issued, note_of, roots, seal, stamped};
use sealwarden_anchors::file::{AddError, Anchor, Anchors, FileError};
use sealwarden_anchors::timestamp::TimestampError;
use sealwarden_seal::merkle::{Hash, MemoryTree};

fn anchor(tsa: &sealwarden_anchors::authority::Issued, at_ms: i64) -> Anchor {
    let note = seal(5, 11).note;
    let response = stamped(tsa, note.to_string().as_bytes(), at_ms);
    Anchor::new(note, response).unwrap()
}

#[test]
fn a_file_is_read_as_it_was_written_and_verifies() {
    let (one, two) = (issued("TSA one"), issued("TSA two"));
    let mut anchors = Anchors::of(anchor(&one, NOW_MS));
    assert!(anchors.add(anchor(&two, NOW_MS), &roots(&two)).unwrap());
    let text = anchors.to_text();
    let again = Anchors::parse(text.as_bytes()).unwrap();
    assert_eq!(again, anchors);
    assert_eq!(again.to_text(), text);
    let verified = again.verified(&roots(&one));
    assert_eq!(verified.len(), 1);
    assert_eq!(verified[0].tsa, "CN=TSA one");
    assert_eq!(verified[0].time_ms, NOW_MS + 1001);
    assert_eq!(verified[0].checkpoint, seal(5, 11).note.to_string());
}

#[test]
fn upgrades_keep_the_earliest_time_of_each_authority() {
    let (tsa, stranger) = (issued("TSA one"), issued("TSA two"));
    let trusted = roots(&tsa);
    let mut anchors = Anchors::of(anchor(&stranger, NOW_MS));
    assert!(
        anchors
            .add(anchor(&tsa, NOW_MS + 60_000), &trusted)
            .unwrap()
    );
    assert!(
        !anchors
            .add(anchor(&tsa, NOW_MS + 90_000), &trusted)
            .unwrap()
    );
    assert!(anchors.add(anchor(&tsa, NOW_MS), &trusted).unwrap());
    assert_eq!(anchors.all().len(), 2, "the stranger's stays");
    let verified = anchors.verified(&trusted);
    assert_eq!(verified[0].time_ms, NOW_MS + 1001);
    // One that does not verify is never added.
    let error = anchors
        .add(anchor(&stranger, NOW_MS), &trusted)
        .unwrap_err();
    let untrusted = matches!(error, AddError::Timestamp(TimestampError::Untrusted { .. }));
    assert!(untrusted, "{error}");
}

#[test]
fn damaged_files_are_refused() {
    let tsa = issued("TSA one");
    let text = Anchors::of(anchor(&tsa, NOW_MS)).to_text();
    let refused = |text: &str| Anchors::parse(text.as_bytes()).unwrap_err();
    assert_eq!(Anchors::parse(&[0xff]).unwrap_err(), FileError::NotUtf8(0));
    assert!(matches!(refused("other\n"), FileError::Header(_)));
    let (header, pair) = text.split_once('\n').unwrap();
    assert_eq!(refused(&format!("{header}\n")), FileError::Count(0));
    assert_eq!(refused(&format!("{text}{pair}")), FileError::Twice);
    let many = format!("{header}\n{}", pair.repeat(33));
    assert_eq!(refused(&many), FileError::Count(33));
    let cut = text.trim_end();
    let line = |line, wanted| FileError::Line { line, wanted };
    assert_eq!(refused(cut), line(3, "rfc3161"));
    assert_eq!(
        refused(&text.replace("checkpoint ", "checkpoint  ")),
        line(2, "checkpoint")
    );
    assert_eq!(
        refused(&format!("{text}checkpoint AAAA\n")),
        line(5, "rfc3161")
    );
    assert!(matches!(
        refused(&text.replace("checkpoint ", "checkpoint AAAA")),
        FileError::Note(_) | FileError::Line { .. }
    ));
    let huge = "x".repeat(sealwarden_anchors::file::MAX_FILE_BYTES + 1);
    assert!(matches!(refused(&huge), FileError::TooLong(_)));
    for end in 0..text.len() {
        assert!(Anchors::parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

/// The note of a later checkpoint of the same log, with the proof that it contains the seal's.
fn later_note() -> (sealwarden_seal::note::Note, Vec<Hash>) {
    let mut tree = MemoryTree::new();
    let sealed = seal(5, 11);
    let entry = sealwarden_seal::record::entry(&sealed.nonce, &sealed.record.encode().unwrap());
    for place in 0..20_u64 {
        if place == 5 {
            tree.push_entry(&entry);
        } else {
            tree.push_entry(&place.to_be_bytes());
        }
    }
    let proof = tree.consistency_proof(11, 20).unwrap();
    (note_of(ORIGIN, 1, &tree), proof)
}

fn later(tsa: &sealwarden_anchors::authority::Issued, at_ms: i64) -> Anchor {
    let (note, proof) = later_note();
    let response = stamped(tsa, note.to_string().as_bytes(), at_ms);
    Anchor::later(note, response, proof).unwrap()
}

#[test]
fn anchors_of_a_later_checkpoint_stand_beside_the_first_ones() {
    let (one, two) = (issued("TSA one"), issued("TSA two"));
    let own = Anchors::of(anchor(&one, NOW_MS));
    let both = own.with(&[later(&two, NOW_MS + 5_000)]).unwrap();
    let text = both.to_text();
    assert!(text.starts_with("sealwarden.anchors@v2\n"), "{text}");
    assert_eq!(Anchors::parse(text.as_bytes()).unwrap(), both);
    assert_eq!(both.checkpoint_text(), own.checkpoint_text());
    // The same again is the same; it does not pile up.
    assert_eq!(both.joined(&both).unwrap(), both);
    let verified = both.verified(&roots(&two));
    assert_eq!(verified.len(), 1);
    let note = seal(5, 11).note;
    assert_eq!(verified[0].size_over(&note), Some(20));
    // A seal of another checkpoint gets nothing from it.
    assert_eq!(verified[0].size_over(&seal(5, 12).note), None);

    // The earliest time of an authority stays, whichever checkpoint it dated; what names the seal's checkpoint stays, too.
    let trusted = roots(&one);
    let mut mine = own.clone();
    assert!(!mine.add(later(&one, NOW_MS + 1), &trusted).unwrap());
    assert!(mine.add(later(&one, NOW_MS - 10_000), &trusted).unwrap());
    assert!(!mine.add(later(&one, NOW_MS - 9_000), &trusted).unwrap());
    assert!(mine.add(later(&one, NOW_MS - 20_000), &trusted).unwrap());
    assert_eq!(mine.all().len(), 2);
    assert_eq!(mine.checkpoint_text(), own.checkpoint_text());
    let times = mine.verified(&trusted);
    assert_eq!(times[1].time_ms, NOW_MS - 20_000 + 1001);
}

#[test]
fn a_later_checkpoint_without_a_proof_that_holds_is_refused() {
    let tsa = issued("TSA one");
    let own = Anchors::of(anchor(&tsa, NOW_MS));
    let with = |it: Anchor| own.with(&[it]).unwrap_err();
    let (note, proof) = later_note();
    let token = || stamped(&tsa, note.to_string().as_bytes(), NOW_MS);
    let bare = Anchor::new(note.clone(), token()).unwrap();
    assert_eq!(with(bare), FileError::Mixed);
    for place in 0..proof.len() {
        let mut bad = proof.clone();
        bad[place].0[3] ^= 1;
        let bad = Anchor::later(note.clone(), token(), bad).unwrap();
        assert!(matches!(with(bad), FileError::Unproven { size: 20, .. }));
    }
    // Another log's later checkpoint, and a proof where none belongs.
    let mut tree = MemoryTree::new();
    for place in 0..20_u64 {
        tree.push_entry(&place.to_be_bytes());
    }
    let strange = note_of("other.example.com/main/1", 1, &tree);
    let strange = Anchor::later(strange, token(), proof.clone()).unwrap();
    assert_eq!(with(strange), FileError::Mixed);
    let fork = Anchor::later(note_of(ORIGIN, 1, &tree), token(), proof.clone()).unwrap();
    assert!(matches!(with(fork), FileError::Unproven { .. }));
    let proven = Anchor::later(seal(5, 11).note, token(), proof).unwrap();
    assert_eq!(with(proven), FileError::Mixed);

    let text = own.with(&[later(&tsa, NOW_MS)]).unwrap().to_text();
    let old = text.replace("@v2", "@v1");
    assert!(matches!(
        Anchors::parse(old.as_bytes()),
        Err(FileError::Line { line: 5, .. })
    ));
    let new = own.to_text().replace("@v1", "@v2");
    assert_eq!(Anchors::parse(new.as_bytes()), Err(FileError::NoneLater));
    for end in 0..text.len() {
        // What ends behind a whole first anchor still says that more has to come.
        assert!(Anchors::parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn anchors_of_two_checkpoints_do_not_mix() {
    let tsa = issued("TSA one");
    let mut anchors = Anchors::of(anchor(&tsa, NOW_MS));
    let mut tree = MemoryTree::new();
    tree.push_entry(b"another");
    let note = note_of(ORIGIN, 1, &tree);
    let response = stamped(&tsa, note.to_string().as_bytes(), NOW_MS);
    let other = Anchor::new(note, response).unwrap();
    let error = anchors.add(other, &roots(&tsa)).unwrap_err();
    assert_eq!(error, AddError::File(FileError::Mixed));
}
