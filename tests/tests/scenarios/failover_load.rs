//! Key providers that hang, are slow and come back under the load of 64 callers: nobody is told more than to wait, and nothing that was acknowledged is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sealwarden_client::{BulkError, Chunk, Client, ClientError, Document, Outcome, Stage, Work};
use sealwarden_seal::merkle::Hash;
use sealwarden_tests::load::{Outcome as Told, collected, must_be_valid};
use sealwarden_tests::{Bao, Installation, Process, eventually};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::token::{MODULES, TOKEN, Token, worker};

/// Callers that seal one document after another, and callers that seal chunks.
const UNARY: usize = 48;
const BULK: usize = 16;
/// Digests of one chunk.
const CHUNK: usize = 32;
/// How much memory the process may ever take more than before, in KiB.
const MORE_KIB: u64 = 256 * 1024;
/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_mins(2);

fn up(here: &Installation, token: &Token, bao: &Bao) -> Process {
    let module = MODULES
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    let settings = format!(
        "sealing:\n  slow_key_ms: 300\nkeys:\n  providers:\n    - {{name: hsm, kind: pkcs11, module: {}, token: {TOKEN}, pin_file: {}, deadline_ms: 1000, breaker: {{slow_ms: 150, slow_window_ms: 1000, pause_ms: 100, longest_pause_ms: 500}}}}\n    - {{name: bao, kind: transit, url: \"{}\", ca_file: {}, token_file: {}, deadline_ms: 1000, breaker: {{pause_ms: 100, longest_pause_ms: 500}}}}\n",
        module.expect("the SoftHSM2 module: install the package softhsm2"),
        token.pin_file.display(),
        bao.url(),
        bao.ca().display(),
        bao.token_file(here).display(),
    );
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    Process::start(
        here.home(),
        "up",
        &here.arguments(&["up", "--base", "seal.example.com"]),
    )
}

/// A figure of the sealing service's memory, in KiB: `VmRSS`, what it has now, or `VmHWM`, the most that it ever had.
fn memory(here: &Installation, figure: &str) -> u64 {
    let endpoints = std::fs::read(here.data().join("endpoints.json")).expect("endpoints.json");
    let endpoints: Value = serde_json::from_slice(&endpoints).expect("JSON");
    let pid = &endpoints["sealing"]["pid"];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find(|line| line.starts_with(figure));
    let words = line.expect("its memory").split_whitespace().nth(1);
    words.and_then(|kib| kib.parse().ok()).expect("a number")
}

/// What all callers share.
struct Crowd {
    client: Client,
    stop: AtomicBool,
    /// Seals and tickets so far.
    counts: watch::Sender<(usize, usize)>,
    /// What callers were refused with: code, and whether they were told when to come again.
    refusals: std::sync::Mutex<BTreeMap<String, usize>>,
}

impl Crowd {
    fn sealed(&self) -> usize {
        self.counts.borrow().0
    }

    /// Waits until so many more are sealed, or under tickets.
    async fn go_on(&self, seals: usize, tickets: usize) {
        let mut counts = self.counts.subscribe();
        let (sealed, queued) = *counts.borrow();
        let enough = counts.wait_for(|now| now.0 >= sealed + seals && now.1 >= queued + tickets);
        let came = tokio::time::timeout(PATIENCE, enough).await.is_ok();
        assert!(
            came,
            "of {seals} seals and {tickets} tickets more came only {:?}, from {sealed} and {queued}; refused: {:?}",
            self.counts.borrow(),
            self.refusals.lock()
        );
    }

    /// A refusal that says when to come again is waited for; any other one ends the test.
    async fn refused(&self, status: &tonic::Status) {
        let hint = status.metadata().get("retry-after-ms");
        let ms = hint.and_then(|value| value.to_str().ok()?.parse().ok());
        let words = format!("{:?}: {}", status.code(), status.message());
        let ms: u64 = ms.unwrap_or_else(|| panic!("an error that is no back-pressure: {words}"));
        *self
            .refusals
            .lock()
            .expect("the refusals")
            .entry(words)
            .or_default() += 1;
        // bounded poll: none; the service said when to come again.
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn one_by_one(self: Arc<Self>, caller: usize) -> Vec<Told> {
        let mut told = Vec::new();
        for number in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("document {caller}-{number}");
            let digest = Hash::of(name.as_bytes()).0;
            let document = Document {
                accept_queued: true,
                request_id: name,
                ..Document::new(digest)
            };
            let answer = loop {
                match self.client.seal(&document).await {
                    Ok(answer) => break answer,
                    Err(ClientError::Refused(status)) => self.refused(&status).await,
                    Err(error) => panic!("{error}"),
                }
            };
            let answer = match answer {
                Outcome::Sealed(sealed) => Ok(sealed.seal),
                Outcome::Queued { ticket } => Err(ticket),
            };
            self.counts.send_modify(|counts| match &answer {
                Ok(_) => counts.0 += 1,
                Err(_) => counts.1 += 1,
            });
            told.push(Told {
                digest,
                told: answer,
            });
        }
        told
    }

    async fn in_bulk(self: Arc<Self>, caller: usize) -> Vec<Told> {
        let mut told = Vec::new();
        for number in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let digest = |place| Hash::of(format!("bulk {caller}-{number}-{place}").as_bytes()).0;
            let digests: Vec<_> = (0..CHUNK).map(digest).collect();
            let work = Work {
                request_id: format!("bulk-{caller}-{number}"),
                ..Work::new("")
            };
            let mut done = false;
            while !done {
                let (to, source) = mpsc::channel(1);
                let chunk = Chunk {
                    number: 0,
                    digests: digests.clone(),
                    ..Chunk::default()
                };
                to.try_send(chunk).expect("room");
                drop(to);
                let sealing = self
                    .client
                    .seal_bulk(&work, source, |chunk, sealed, _: Stage| {
                        let mut digests = chunk.digests.iter();
                        sealed.for_each_seal(|_, text| {
                            let digest = *digests.next().expect("a digest for each seal");
                            let seal = Ok(text.as_bytes().to_vec());
                            told.push(Told { digest, told: seal });
                        });
                    });
                match sealing.await {
                    Ok(()) => done = true,
                    Err(BulkError::Client(ClientError::Refused(status))) => {
                        self.refused(&status).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            self.counts.send_modify(|counts| counts.0 += CHUNK);
        }
        told
    }
}

/// Lets the token answer late for a while: its worker gets the processor only every now and then.
async fn slow_down(here: &Installation, times: usize) {
    for _ in 0..times {
        let pid = Pid::from_raw(worker(here)).expect("a process id");
        // A worker that was replaced meanwhile is gone, and the next one is slowed down.
        kill_process(pid, Signal::STOP).ok();
        // bounded poll: none; being slow takes its time.
        tokio::time::sleep(Duration::from_millis(400)).await;
        kill_process(pid, Signal::CONT).ok();
        // bounded poll: none; it answers what waits.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_notice_no_more_than_waiting_while_the_providers_hang_are_slow_and_come_back()
 {
    let here = Installation::new();
    let token = Token::new(&here);
    let bao = Bao::start(&here);
    let _up = up(&here, &token, &bao);
    here.key_on_duty("active", "hsm");
    here.key_on_duty("standby", "bao");
    here.seal_eventually(&here.file("first", b"first"));
    let trust = here.trust("trust-before.json");
    let before = memory(&here, "VmRSS:");

    let address = here.address("sealing", "grpc");
    let client = Client::connect(&address, &here.identity("operator")).await;
    let crowd = Arc::new(Crowd {
        // Every refusal is to be seen here.
        client: client.expect("a connection").patience(Duration::ZERO),
        stop: AtomicBool::new(false),
        counts: watch::Sender::new((0, 0)),
        refusals: std::sync::Mutex::default(),
    });
    let mut callers = JoinSet::new();
    for caller in 0..UNARY {
        callers.spawn(Arc::clone(&crowd).one_by_one(caller));
    }
    for caller in 0..BULK {
        callers.spawn(Arc::clone(&crowd).in_bulk(caller));
    }
    crowd.go_on(500, 0).await;

    // The token hangs, and the worker that would replace this one finds none: the second provider signs.
    let away = here.home().join("away");
    std::fs::rename(&token.folder, &away).expect("the token is removed");
    std::fs::create_dir(&token.folder).expect("an empty reader");
    let hanging = Pid::from_raw(worker(&here)).expect("a process id");
    kill_process(hanging, Signal::STOP).expect("a signal");
    here.key_on_duty("active", "bao");
    crowd.go_on(500, 0).await;

    // The second one stops, too: what is not critical gets tickets, and is sealed when it is back.
    bao.signal(Signal::STOP);
    crowd.go_on(0, 300).await;
    bao.signal(Signal::CONT);
    eventually("the queue is empty", || {
        (here.status()["sealing"]["tickets"] == 0).then_some(())
    });
    crowd.go_on(500, 0).await;

    // The token is back: a person fails back, and it stays so.
    std::fs::remove_dir(&token.folder).expect("the empty reader");
    std::fs::rename(&away, &token.folder).expect("the token is back");
    eventually("the token answers a probe", || {
        let answer = here.call(&["keys", "failback", "--why", "the token is back"]);
        (answer.code == 0).then_some(())
    });
    crowd.go_on(500, 0).await;
    here.key_on_duty("active", "hsm");

    // It is slow: seals go on, by it or by the other one. Then it hangs, is stood in for, and is failed back to once more.
    slow_down(&here, 12).await;
    crowd.go_on(100, 0).await;
    let hanging = Pid::from_raw(worker(&here)).expect("a process id");
    // Gone already, if another one took its place.
    kill_process(hanging, Signal::STOP).ok();
    here.key_on_duty("active", "bao");
    crowd.go_on(200, 0).await;
    eventually("the token answers fast again", || {
        let answer = here.call(&["keys", "failback", "--why", "it is fast again"]);
        (answer.code == 0).then_some(())
    });
    crowd.go_on(500, 0).await;
    here.key_on_duty("active", "hsm");

    crowd.stop.store(true, Ordering::SeqCst);
    let mut told = Vec::new();
    while let Some(more) = callers.join_next().await {
        told.extend(more.expect("a caller ends"));
    }
    assert!(told.iter().filter(|it| it.is_sealed()).count() >= crowd.sealed());
    let most = memory(&here, "VmHWM:");
    let patient = crowd.client.clone().patience(PATIENCE);
    let sealed = collected(&patient, told).await;
    must_be_valid(&sealed, &trust);
    println!(
        "{} seals, {} of them by tickets; memory {before} KiB, at most {most} KiB; refused: {:?}",
        sealed.len(),
        crowd.counts.borrow().1,
        crowd.refusals.lock().expect("the refusals")
    );
    assert!(most < before + MORE_KIB, "{before} KiB became {most} KiB");
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}
