use super::support::{NOW_MS, ORIGIN, issued, note_of, roots, seal, stamped};
use sealwarden_anchors::file::{AddError, Anchor, Anchors, FileError};
use sealwarden_anchors::timestamp::TimestampError;
use sealwarden_seal::merkle::MemoryTree;

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
