//! Sealing while signing is stopped: tickets at once, seals later, none lost and none doubled, whatever is killed meanwhile.

use std::path::{Path, PathBuf};

use sealwarden_seal::seal::Seal;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::wait::a_while;
use sealwarden_tests::{Installation, eventually, people};
use sealwarden_wire::seal::v1::{ExportSealsRequest, sealing_client::SealingClient};

const ORIGIN: &str = "seal.example.com/main/1";
const SUCCESSOR: &str = "seal.example.com/main/2";
/// Rounds of files, each of which ends with a kill.
const ROUNDS: u32 = 3;
const FILES: u32 = 12;

fn ticket_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.seal.ticket", file.display()))
}

fn text(file: &Path) -> &str {
    file.to_str().expect("a path")
}

/// A proven signal, so that signing is held.
async fn hold(here: &Installation) -> String {
    let thief = Thief::steals_from(here, "sealing-1").await;
    thief::shows_to_the_witness(here, &thief.forges(ORIGIN, 1_000).await, 1).await;
    eventually("signing is on hold", || {
        (here.status()["sealing"]["mode"] == "hold").then_some(())
    });
    people::run_of_the_incident(here)
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_a_hold_outlive_every_kill_and_become_one_seal_each() {
    let here = Installation::new();
    let mut up = here.up();
    here.seal(&here.file("before", b"before"));
    let run = hold(&here).await;
    let mut waiting = Vec::new();
    for round in 0..ROUNDS {
        let files: Vec<_> = (0..FILES)
            .map(|n| {
                let name = format!("file {round} {n}");
                here.file(&name, name.as_bytes())
            })
            .collect();
        // Sealing and the kill race: what has its ticket must become a seal, what has none may be asked for again.
        std::thread::scope(|scope| {
            let sealer = scope.spawn(|| {
                for file in &files {
                    let answer = here.call(&["seal", text(file)]);
                    assert!([1, 3].contains(&answer.code), "{answer}");
                }
            });
            a_while(200..600);
            up.kill();
            sealer.join().expect("the sealer ends");
        });
        up = here.up();
        waiting.extend(files.into_iter().filter(|file| ticket_of(file).exists()));
    }
    assert!(
        !waiting.is_empty(),
        "no ticket was given out between the crashes"
    );
    let collect = here
        .call(&["seal", "--collect", text(&waiting[0])])
        .ends_with(1);
    assert_eq!(collect.json()["seals"][0]["stage"], "queued", "{collect}");

    people::approve_until_the_end(&here, &run);
    // The queue drains: it is killed in the middle of that too.
    up.kill();
    up = here.up();
    let mut arguments = vec!["seal", "--collect"];
    arguments.extend(waiting.iter().map(|file| text(file)));
    arguments.push("--wait");
    let collected = here.call(&arguments).good();
    let seals = collected["seals"].as_array().expect("seals");
    assert!(
        seals.iter().all(|seal| seal["origin"] == SUCCESSOR),
        "{collected:#}"
    );
    for file in &waiting {
        assert!(
            !ticket_of(file).exists(),
            "the ticket of {} is done",
            file.display()
        );
        let verdict = here.verify(file).good();
        assert_eq!(verdict["verdict"], "valid", "{verdict:#}");
    }
    nothing_is_doubled(&here).await;
    assert!(up.terminate().success());
}

/// No document has two leaves in the new tree.
async fn nothing_is_doubled(here: &Installation) {
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let request = ExportSealsRequest {
        origin: SUCCESSOR.to_owned(),
    };
    let mut seals = sealing
        .export_seals(request)
        .await
        .expect("the new tree's seals")
        .into_inner();
    let mut digests = Vec::new();
    while let Some(answer) = seals.message().await.expect("a seal") {
        digests.push(Seal::parse(&answer.seal).expect("a seal").record.digest);
    }
    let all = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), all, "a document was sealed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_ticket_is_refused_and_a_ticket_is_asked_for_again_under_its_own_id() {
    let here = Installation::new();
    let _up = here.up();
    here.seal(&here.file("before", b"before"));
    hold(&here).await;
    let file = here.file("held", b"held");
    here.call(&["seal", "--no-queue", text(&file)])
        .must_end_with(3);
    assert!(!ticket_of(&file).exists());
    let first = here.call(&["seal", text(&file)]).ends_with(1).json();
    let again = here.call(&["seal", text(&file)]).ends_with(1).json();
    assert_eq!(
        first["seals"][0]["ticket"], again["seals"][0]["ticket"],
        "{again}"
    );
    assert_eq!(here.status()["sealing"]["tickets"], 1);
    let nothing = here.file("nothing", b"nothing");
    here.call(&["seal", "--collect", text(&nothing)])
        .must_end_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_get_tickets_while_signing_is_held_and_their_seals_afterwards() {
    let here = Installation::new();
    let _up = here.up();
    here.seal(&here.file("before", b"before"));
    let run = hold(&here).await;
    // As many as are sealed in bulk, which gives no tickets: they are asked for one by one.
    let files: Vec<_> = (0..80_u8)
        .map(|number| here.file(&format!("many-{number}"), &[number]))
        .collect();
    let mut call = vec!["seal"];
    call.extend(files.iter().map(|file| text(file)));
    let answer = here.call(&call).ends_with(1).json();
    let told = answer["seals"].as_array().expect("seals");
    assert_eq!(told.len(), 80);
    assert!(told.iter().all(|it| it["stage"] == "queued"), "{answer}");
    assert!(files.iter().all(|file| ticket_of(file).exists()));
    people::approve_until_the_end(&here, &run);
    let mut call = vec!["seal", "--collect", "--wait", "witnessed"];
    call.extend(files.iter().map(|file| text(file)));
    let answer = here.call(&call).good();
    let told = answer["seals"].as_array().expect("seals");
    let mut indexes: Vec<_> = told.iter().filter_map(|it| it["index"].as_u64()).collect();
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 80, "each has a leaf of its own: {answer}");
}
