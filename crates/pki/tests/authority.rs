//! The authority and identities as files.
#![cfg(test)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Barrier,
    thread,
    time::Duration,
};

use sealwarden_pki::{Authority, CallerName, CallerRole, IdentityFiles, PkiError};

const DAY: Duration = Duration::from_hours(24);

fn name(text: &str) -> CallerName {
    CallerName::new(text).unwrap()
}

fn open(dir: &Path) -> Authority {
    Authority::open_or_create(dir, "test").unwrap()
}

fn hosts(of: &[&str]) -> Vec<String> {
    of.iter().map(|host| (*host).to_owned()).collect()
}

#[test]
fn an_identity_says_who_it_is_where_it_serves_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir.path().join("ca"));
    let served = hosts(&["localhost", "127.0.0.1", "::1", "seal.example.com"]);
    let identity = authority
        .issue(&name("node-1"), CallerRole::Node, &served, DAY)
        .unwrap();
    let info = identity.info().unwrap();
    assert_eq!(
        (info.name.as_str(), info.role),
        ("node-1", CallerRole::Node)
    );
    assert_eq!(
        info.hosts,
        ["127.0.0.1", "::1", "localhost", "seal.example.com"]
    );
    let now_ms = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap();
    let left_ms = info.expires_at_ms - now_ms;
    assert!((86_300_000..=86_400_000).contains(&left_ms), "{left_ms}");
    assert!(!format!("{identity:?}").contains("PRIVATE KEY"));
}

#[test]
fn identities_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir.path().join("ca"));
    let issue = |role, served: &[&str], validity| {
        authority
            .issue(&name("x"), role, &hosts(served), validity)
            .unwrap_err()
    };
    let serving_person = issue(CallerRole::Operator, &["localhost"], DAY);
    assert!(matches!(serving_person, PkiError::NotAServer { .. }));
    for bad in ["host:8080", "", "a b", "ü.example"] {
        let error = issue(CallerRole::Node, &[bad], DAY);
        assert!(
            matches!(error, PkiError::InvalidHost(_) | PkiError::Issue(_)),
            "{bad}: {error}"
        );
    }
    for validity in [Duration::ZERO, DAY * 365 * 11, Duration::MAX] {
        let error = issue(CallerRole::Node, &[], validity);
        assert!(matches!(error, PkiError::InvalidValidity { .. }), "{error}");
    }
}

#[test]
fn processes_that_start_at_once_get_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(4);
    let pems: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    open(&dir.path().join("ca")).certificate_pem().to_owned()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(pems.iter().all(|pem| *pem == pems[0]));
}

#[test]
fn a_crash_between_key_and_certificate_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    open(&ca);
    fs::remove_file(ca.join("ca.cert.pem")).unwrap();
    open(&ca);
    fs::remove_file(ca.join("ca.key.pem")).unwrap();
    assert!(Authority::open_or_create(&ca, "test").is_err());
}

#[test]
fn another_installation_a_foreign_key_and_open_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    open(&one);
    open(&two);
    let error = Authority::open_or_create(&one, "prod").err().unwrap();
    assert!(
        matches!(error, PkiError::OtherInstallation { .. }),
        "{error}"
    );
    let key = one.join("ca.key.pem");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let error = Authority::open_or_create(&one, "test").err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::copy(two.join("ca.key.pem"), &key).unwrap();
    let error = Authority::open_or_create(&one, "test").err().unwrap();
    assert!(matches!(error, PkiError::Corrupt { .. }), "{error}");
}

#[test]
fn an_identity_is_kept_until_it_no_longer_serves() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir.path().join("ca"));
    let files = IdentityFiles::in_dir(&dir.path().join("certs"), "node");
    let get = |authority: &Authority, role, served: &[&str], validity| {
        let served = hosts(served);
        files
            .load_or_issue(authority, &name("n"), role, &served, validity)
            .unwrap()
            .certificate_pem()
            .to_owned()
    };
    let first = get(&authority, CallerRole::Node, &["localhost", "0:0::1"], DAY);
    let again = get(&authority, CallerRole::Node, &["0:0::1", "localhost"], DAY);
    assert_eq!(first, again);
    let longer = get(
        &authority,
        CallerRole::Node,
        &["::1", "localhost"],
        DAY * 30,
    );
    assert_ne!(first, longer);
    let moved = get(&authority, CallerRole::Node, &["localhost"], DAY);
    assert_ne!(longer, moved);
    fs::write(&files.cert, "rubbish").unwrap();
    assert!(matches!(files.load(), Err(PkiError::Corrupt { .. })));
    let mended = get(&authority, CallerRole::Node, &["localhost"], DAY);
    let other = get(
        &open(&dir.path().join("ca2")),
        CallerRole::Node,
        &["localhost"],
        DAY,
    );
    assert_ne!(mended, other);
    assert_eq!(files.load().unwrap().certificate_pem(), other);
}

#[test]
fn an_identity_with_an_open_or_foreign_key_does_not_load() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir.path().join("ca"));
    let issue = |to: &str| {
        let files = IdentityFiles::in_dir(dir.path(), to);
        let identity = authority
            .issue(&name(to), CallerRole::Sealer, &[], DAY)
            .unwrap();
        files.store(&identity).unwrap();
        files
    };
    let (one, two) = (issue("one"), issue("two"));
    fs::copy(&two.key, &one.key).unwrap();
    assert!(matches!(one.load(), Err(PkiError::Corrupt { .. })));
    fs::set_permissions(&two.key, Permissions::from_mode(0o640)).unwrap();
    let error = two.load().unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
