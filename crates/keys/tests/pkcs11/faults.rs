//! What goes wrong with PINs, tokens, sessions, modules and workers.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use sealwarden_keys::{
    CreateKey, KeyError, KeyProvider as _, Pkcs11Provider, Purpose, TokenProblem, sign_within,
};

use crate::support::{
    PIN, SoftHsm, TOKEN, eventually, exists, id, sign, signal_process, signal_worker, uses,
};

#[tokio::test]
async fn a_wrong_pin_is_named_and_not_tried_again_until_the_file_changes() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    std::fs::write(hsm.path("pin"), "wrong pin\n").unwrap();
    let wrong = KeyError::Token(TokenProblem::PinWrong {
        token: TOKEN.to_owned(),
    });
    assert_eq!(SoftHsm::open_error(hsm.config()).await, wrong);
    assert!(wrong.to_string().contains("PIN file"), "{wrong}");

    // A worker that is replaced reads the file anew, and tries a refused PIN once.
    signal_worker(&provider, Signal::KILL);
    for _ in 0..3 {
        let refused = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
        assert_eq!(refused, Err(wrong.clone()));
        assert_eq!(provider.worker_pid(), None, "no worker was started for it");
    }
    std::fs::write(hsm.path("pin"), PIN).unwrap();
    sign(&provider, &key, b"m").await;
}

#[tokio::test]
async fn a_pin_file_that_is_open_empty_or_missing_is_refused_with_the_remedy() {
    let hsm = SoftHsm::new();
    let mut config = hsm.config();
    config.pin_file = hsm.path("nowhere");
    let error = SoftHsm::open_error(config).await.to_string();
    assert!(error.contains("mode 0600"), "{error}");
    std::fs::write(hsm.path("empty"), "\n").unwrap();
    let mut config = hsm.config();
    config.pin_file = hsm.path("empty");
    let error = SoftHsm::open_error(config.clone()).await.to_string();
    assert!(error.contains("chmod 600"), "{error}");
    hsm.close("empty");
    let error = SoftHsm::open_error(config).await.to_string();
    assert!(error.contains("is empty"), "{error}");
}

#[tokio::test]
async fn modules_and_tokens_that_are_not_there_are_told_apart() {
    let hsm = SoftHsm::new();
    for module in ["/nowhere/module.so", "/etc/passwd"] {
        let mut config = hsm.config();
        config.module = module.into();
        let error = SoftHsm::open_error(config).await;
        let KeyError::Token(TokenProblem::ModuleNotLoadable { module: named, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(named, module);
    }
    let mut config = hsm.config();
    config.token = "another".to_owned();
    let absent = TokenProblem::TokenAbsent {
        token: "another".to_owned(),
    };
    assert_eq!(SoftHsm::open_error(config).await, KeyError::Token(absent));
    hsm.add_token(TOKEN);
    let twice = TokenProblem::TokenAmbiguous {
        token: TOKEN.to_owned(),
        count: 2,
    };
    assert_eq!(
        SoftHsm::open_error(hsm.config()).await,
        KeyError::Token(twice)
    );
    let mut config = hsm.config();
    config.worker.program = hsm.path("no-program");
    let error = SoftHsm::open_error(config).await;
    assert!(matches!(error, KeyError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_removed_token_is_reported_and_used_again_when_it_is_back() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    sign(&provider, &key, b"m").await;
    std::fs::rename(hsm.tokens(), hsm.path("removed")).unwrap();
    std::fs::create_dir(hsm.tokens()).unwrap();
    let absent = KeyError::Token(TokenProblem::TokenAbsent {
        token: TOKEN.to_owned(),
    });
    let gone = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert_eq!(gone, Err(absent.clone()));

    // A service that starts now starts, and its key can be disabled.
    let started = hsm.open().await;
    let gone = started.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert_eq!(gone, Err(absent));

    std::fs::remove_dir(hsm.tokens()).unwrap();
    std::fs::rename(hsm.path("removed"), hsm.tokens()).unwrap();
    for provider in [provider, started] {
        // Each failure in a row makes the pause before the next worker longer, to a bound of seconds.
        let mut last = None;
        for _ in 0..100_000 {
            match provider.sign(&id("k"), Purpose::Sealing, b"m").await {
                Ok(_) => {
                    last = None;
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        assert_eq!(last, None);
    }
}

#[tokio::test]
async fn a_key_is_disabled_although_its_token_is_away() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    std::fs::rename(hsm.tokens(), hsm.path("removed")).unwrap();
    std::fs::create_dir(hsm.tokens()).unwrap();
    let outcome = format!("{:?}", provider.disable(&id("k")).await.unwrap());
    assert!(outcome.contains("was not told"), "{outcome}");
    let refused = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_lost_session_is_opened_again_within_the_call() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    sign(&provider, &key, b"m").await;
    let worker = provider.worker_pid();
    for _ in 0..3 {
        let order = hsm.path("lose");
        std::fs::write(&order, "").unwrap();
        eventually("the sessions are lost", || !order.exists());
        sign(&provider, &key, b"m").await;
    }
    assert_eq!(provider.worker_pid(), worker, "the same worker");
    assert_eq!(uses(&provider).await, 4);
}

#[tokio::test]
async fn a_module_that_hangs_is_killed_and_its_caller_notices_a_slow_call() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    let stopped = signal_worker(&provider, Signal::STOP);
    sign(&provider, &key, b"m").await;
    assert_ne!(provider.worker_pid(), Some(stopped));
    assert!(!exists(stopped), "the stopped worker is gone");
    assert_eq!(
        uses(&provider).await,
        2,
        "both uses that may have happened are recorded"
    );
}

#[tokio::test]
async fn a_deadline_ends_a_call_to_a_hanging_module_without_a_signature() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    signal_worker(&provider, Signal::STOP);
    let short = Duration::from_millis(50);
    let late = sign_within(&provider, &id("k"), Purpose::Sealing, b"m", short).await;
    let timeout = KeyError::Timeout {
        id: id("k"),
        deadline_ms: 50,
    };
    assert_eq!(late, Err(timeout));
    // The next caller finds a new worker.
    sign(&provider, &key, b"m").await;
}

#[tokio::test]
async fn a_module_that_hangs_each_time_is_a_timeout_and_never_a_signature() {
    let hsm = SoftHsm::new();
    let mut config = hsm.config();
    config.limits.attempt = Duration::from_millis(200);
    config.limits.call = Duration::from_millis(200);
    let provider = Pkcs11Provider::open(config).await.unwrap();
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    signal_worker(&provider, Signal::STOP);
    let late = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    let timeout = KeyError::Timeout {
        id: id("k"),
        deadline_ms: 200,
    };
    assert_eq!(late, Err(timeout));
    assert_eq!(provider.worker_pid(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_in_the_middle_of_calls_loses_none_of_them() {
    let hsm = SoftHsm::new();
    let provider = Arc::new(hsm.open().await);
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    let tasks: Vec<_> = (0..4_u8)
        .map(|number| {
            let (provider, key) = (Arc::clone(&provider), key.clone());
            tokio::spawn(async move {
                for round in 0..25_u8 {
                    sign(&provider, &key, &[number, round]).await;
                }
            })
        })
        .collect();
    for rounds in [10, 30, 60] {
        while uses(&provider).await < rounds {
            tokio::task::yield_now().await;
        }
        if let Some(pid) = provider.worker_pid() {
            // It may be stopped or running, in a call or between two.
            signal_process(pid, Signal::KILL);
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(uses(&provider).await >= 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_calls_are_bounded() {
    let hsm = SoftHsm::new();
    let mut config = hsm.config();
    config.limits.waiting = 8;
    let provider = Arc::new(Pkcs11Provider::open(config).await.unwrap());
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    let stopped = signal_worker(&provider, Signal::STOP);
    let tasks: Vec<_> = (0..100_u8)
        .map(|number| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move {
                let message = [number];
                provider.sign(&id("k"), Purpose::Sealing, &message).await
            })
        })
        .collect();
    let (mut signed, mut refused) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => signed += 1,
            Err(KeyError::Unavailable { reason }) => {
                assert!(reason.contains("8 calls already wait"), "{reason}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((signed, refused), (9, 91), "one in hand, eight waiting");
    assert!(!exists(stopped));
    sign(&provider, &key, b"and on").await;
}

#[tokio::test]
async fn a_worker_that_floods_its_pipe_or_answers_unasked_is_replaced_and_never_believed() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    sign(&provider, &key, b"m").await;
    for order in ["lose.flood", "lose.garble"] {
        let before = provider.worker_pid().unwrap();
        let order = hsm.path(order);
        std::fs::write(&order, "").unwrap();
        eventually("the worker misbehaves", || !order.exists());
        // It may still be about to write: a call that comes before that is answered as ever.
        while provider.worker_pid() == Some(before) {
            sign(&provider, &key, b"m").await;
        }
        assert!(!exists(before), "it was ended");
        sign(&provider, &key, b"m").await;
    }
}

#[tokio::test]
async fn a_call_whose_caller_left_before_its_turn_does_not_use_the_key() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    signal_worker(&provider, Signal::STOP);
    let short = Duration::from_millis(50);
    let first = id("k");
    let stuck = sign_within(&provider, &first, Purpose::Sealing, b"1", short);
    let waits = sign_within(&provider, &first, Purpose::Sealing, b"2", short);
    let (stuck, waits) = tokio::join!(stuck, waits);
    assert!(stuck.is_err() && waits.is_err());
    sign(&provider, &key, b"3").await;
    assert_eq!(uses(&provider).await, 2, "the first and the third");
}

#[tokio::test]
async fn a_worker_ends_with_its_provider_even_if_it_hangs() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let pid = signal_worker(&provider, Signal::STOP);
    drop(provider);
    tokio::task::spawn_blocking(move || eventually("the worker is gone", || !exists(pid)))
        .await
        .unwrap();
}
