//! A tenant's limits as an operator sets them, seen by callers.

use sealwarden_tests::Installation;

#[test]
fn tenants_have_the_limits_that_the_settings_say() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("a folder");
    let settings = here.data().join("settings.yaml");
    let text = "sealing:\n  only_listed_tenants: true\n  tenants:\n    default: {}\n    slow: { max_per_second: 1 }\n    closed: { callers: [somebody-else] }\n    terse: { max_metadata_bytes: 50 }\n";
    std::fs::write(&settings, text).expect("settings");
    let up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let files: Vec<_> = (0..80)
        .map(|number| {
            here.file(&format!("{number}"), &[number])
                .display()
                .to_string()
        })
        .collect();
    let of = |tenant: &str, count: usize, more: &[&str]| {
        let mut call = vec!["seal", "--no-queue", "--wait", "sealed", "--tenant", tenant];
        call.extend(more);
        call.extend(files.iter().take(count).map(String::as_str));
        here.call(&call)
    };
    let refused = of("unknown", 1, &[]).ends_with(4);
    assert!(refused.stdout.contains("only_listed_tenants"), "{refused}");
    let refused = of("closed", 1, &[]).ends_with(4);
    assert!(
        refused.stdout.contains("operator may not seal"),
        "{refused}"
    );
    let refused = of(
        "terse",
        70,
        &["--subject", "a subject that is longer than terse may have"],
    )
    .ends_with(2);
    assert!(refused.stdout.contains("max_metadata_bytes"), "{refused}");
    // A chunk is taken whole; the next request is told to come again, with tenant and limit.
    of("slow", 70, &[]).must_end_with(0);
    let one = here.file("one", b"one").display().to_string();
    let call = ["seal", "--no-queue", "--tenant", "slow", one.as_str()];
    let refused = here.call(&call).ends_with(3);
    assert!(
        refused.stdout.contains("may seal 1 digests a second"),
        "{refused}"
    );
    of("default", 0, &[&one]).must_end_with(0);
    drop(up);

    std::fs::write(&settings, "sealing: { tenants: { Acme: {} } }\n").expect("settings");
    let arguments = here.arguments(&["up"]);
    let refused = sealwarden_tests::binary::sealwarden(here.home(), &arguments);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("not a tenant's name"), "{refused}");
}
