//! Sealing keys with an OpenBao server: sealing, an outage, and a use of the key that nobody intended.

use sealwarden_tests::{Bao, Installation, eventually};

const KEY: &str = "sealing-main-1";

#[test]
fn a_rogue_use_of_a_servers_key_opens_a_proven_incident_and_our_own_uses_open_none() {
    let here = Installation::new();
    let bao = Bao::start(&here);
    let up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    let mut files = vec![here.file("first", b"first")];
    here.seal(&files[0]);
    let keys = here.call(&["keys", "list"]).good();
    let made = keys["keys"].as_array().into_iter().flatten();
    let made: Vec<_> = made.filter(|key| key["key_id"] == "main-1").collect();
    assert_eq!(made[0]["provider"], "transit", "{keys}");

    // A sealed server stops sealing until it is unsealed; verifying goes on.
    bao.run(&["operator", "seal"]);
    assert_eq!(here.verify(&files[0]).good()["verdict"], "valid");
    bao.unseal();
    files.push(here.file("second", b"second"));
    here.seal_eventually(&files[1]);
    assert!(up.terminate().success());
    let _up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    files.push(here.file("third", b"third"));
    here.seal_eventually(&files[2]);
    assert_eq!(here.suspicions(), [""; 0], "every use had its intent");

    // Somebody else's token signs something with the sealing key.
    bao.run(&["write", &format!("transit/sign/{KEY}"), "input=Zm9yZ2Vk"]);
    let id = eventually("an incident is open", || {
        here.suspicions().into_iter().next()
    });
    let incident = here.call(&["incident", "show", &id]).good();
    let signal = &incident["signals"][0];
    assert_eq!(signal["detector"], "unexplained-key-use", "{incident:#}");
    assert_eq!(signal["proven"], true, "{incident:#}");
    assert_eq!(
        incident["origin"], "seal.example.com/main/1",
        "{incident:#}"
    );
    for file in &files {
        assert_eq!(here.verify(file).code, 0, "verification goes on");
    }
}

#[test]
fn the_servers_own_signatures_are_measured_beside_sealing_and_nothing_stays_in_it() {
    let here = Installation::new();
    let bao = Bao::start(&here);
    let url = bao.url();
    let [ca, token] = [bao.ca(), bao.token_file(&here)].map(|path| path.display().to_string());
    let bench = ["bench", "transit", "--seconds", "1", "--allow-debug"];
    let alone = [&bench[..], &["--bao", &url]].concat();
    here.call(&alone).must_end_with(2);
    let server = ["--bao", &url, "--bao-ca", &ca, "--token-file", &token];
    let measured = here.call(&[&bench[..], &server].concat()).good();
    let figures = measured["figures"].as_array().expect("figures");
    let names: Vec<_> = figures.iter().map(|figure| &figure["name"]).collect();
    assert_eq!(
        names,
        ["seal.transit", "seal.transit.batched", "seal.transit.p99"],
        "{measured:#}"
    );
    for figure in figures {
        assert!(figure["ratio"].as_f64() > Some(0.0), "{figure:#}");
    }
    let mounts = bao.output(&["secrets", "list"]);
    let mounts = String::from_utf8_lossy(&mounts.stdout).into_owned();
    assert!(mounts.contains("transit/"), "{mounts}");
    assert!(!mounts.contains("sealwarden-bench"), "{mounts}");
}
