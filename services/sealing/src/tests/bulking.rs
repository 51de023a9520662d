//! Bulk streams: each digest gets a provable seal, and nothing is sealed twice.

use super::rig::{ORIGIN, Rig, World, called_by, soon};
use sealwarden_domain::log_control::LogControl;
use sealwarden_keys::faults::Fault;
use sealwarden_pki::CallerRole;
use sealwarden_seal::bulk::encode_records;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{BatchProof, Hash};
use sealwarden_seal::note::Note;
use sealwarden_seal::record::{DigestAlgorithm, Record, entry_leaf_hash};
use sealwarden_wire::event::v1::DirectiveKind;
use sealwarden_wire::seal::v1::seal_stream_request::Message;
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{
    DigestChunk, GetSealRequest, SealStreamHeader, SealStreamRequest, SealStreamResponse,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

fn header(id: &str) -> SealStreamHeader {
    SealStreamHeader {
        digest_algorithm: "sha-256".to_owned(),
        tenant: "acme".to_owned(),
        request_id: id.to_owned(),
        ..SealStreamHeader::default()
    }
}

/// A chunk of this many digests, each another one.
fn chunk(number: u64, count: u64) -> DigestChunk {
    let digest = |place: u64| Hash::of(&(number << 32 | place).to_be_bytes()).0;
    DigestChunk {
        number,
        digests: (0..count).flat_map(digest).collect::<Vec<_>>().into(),
        ..DigestChunk::default()
    }
}

/// A stream that is written to while it is answered.
struct Talk {
    to: mpsc::Sender<Result<SealStreamRequest, Status>>,
    from: ReceiverStream<Result<SealStreamResponse, Status>>,
}

impl Talk {
    async fn open(rig: &Rig, header: SealStreamHeader) -> Self {
        let (to, requests) = mpsc::channel(8);
        let from = crate::bulk::open(
            &rig.service,
            "ada".to_owned(),
            ReceiverStream::new(requests),
        );
        let talk = Self { to, from };
        talk.say(Message::Header(header)).await;
        talk
    }

    async fn say(&self, message: Message) {
        let message = Some(message);
        soon(self.to.send(Ok(SealStreamRequest { message })))
            .await
            .unwrap();
    }

    async fn chunk(&self, chunk: DigestChunk) {
        self.say(Message::Chunk(chunk)).await;
    }

    async fn hear(&mut self) -> Result<SealStreamResponse, Status> {
        soon(self.from.next()).await.expect("an answer")
    }
}

async fn one(rig: &Rig, id: &str, sent: DigestChunk) -> Result<SealStreamResponse, Status> {
    let mut talk = Talk::open(rig, header(id)).await;
    talk.chunk(sent).await;
    talk.hear().await
}

/// Makes records, leaf hashes and paths as a client does, and checks every path against the signed root.
fn require_proven(rig: &Rig, id: &str, sent: &DigestChunk, answer: &SealStreamResponse) {
    let (digests, _) = sent.digests.as_chunks::<32>();
    let shared = Record {
        tenant: "acme".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: [0; 32],
        claimed_at_ms: answer.claimed_at_ms,
        subject: None,
        original: None,
        request_id: (!id.is_empty()).then(|| format!("{id}#{}", sent.number)),
    };
    let records = encode_records(&shared, digests, &sent.subjects).unwrap();
    let (nonces, _) = answer.nonces.as_chunks::<16>();
    let hashes: Vec<_> = records
        .iter()
        .zip(nonces)
        .map(|(record, nonce)| entry_leaf_hash(nonce, record))
        .collect();
    assert_eq!(hashes.len(), digests.len());
    let note = Note::parse(&answer.checkpoint).unwrap();
    note.verify(std::slice::from_ref(
        &rig.service.tree(ORIGIN).unwrap().vkey,
    ))
    .unwrap();
    let checkpoint = Checkpoint::parse(note.text()).unwrap();
    let (proof, _) = answer.proof.as_chunks::<32>();
    let proof = BatchProof {
        first: answer.first_index,
        size: checkpoint.size,
        hashes: proof.iter().copied().map(Hash).collect(),
    };
    let paths = proof.expand(&hashes, &checkpoint.root).unwrap();
    assert_eq!(paths.range().count(), digests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_digest_of_a_stream_gets_a_provable_seal_of_its_own() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    let mut talk = Talk::open(&rig, header("work")).await;
    let chunks: Vec<_> = [1, 300, 8_192, 17]
        .into_iter()
        .zip(0..)
        .map(|(count, number)| chunk(number, count))
        .collect();
    for chunk in &chunks {
        talk.chunk(chunk.clone()).await;
    }
    let mut next = 1;
    for chunk in &chunks {
        let answer = talk.hear().await.unwrap();
        assert_eq!((answer.number, answer.first_index), (chunk.number, next));
        next += u64::from(answer.count);
        require_proven(&rig, "work", chunk, &answer);
    }
    drop(talk.to);
    assert!(soon(talk.from.next()).await.is_none(), "and it ends well");
    let request = GetSealRequest {
        origin: ORIGIN.to_owned(),
        index: 42,
        follow: false,
    };
    let got = rig
        .grpc
        .get_seal(called_by(CallerRole::Sealer, request))
        .await;
    let got = sealwarden_seal::seal::Seal::parse(&got.unwrap().into_inner().seal).unwrap();
    assert_eq!(got.record.request_id.as_deref(), Some("work#1"));
    assert_eq!(
        got.record.digest,
        Hash::of(&((1_u64 << 32) + 40).to_be_bytes()).0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_chunk_is_sealed_once_across_streams_and_restarts() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let mut sent = chunk(3, 700);
    let first = one(&rig, "work", sent.clone()).await.unwrap();
    rig.sealed(1).await;
    let again = one(&rig, "work", sent.clone()).await.unwrap();
    assert_eq!(
        (again.first_index, &again.nonces),
        (first.first_index, &first.nonces)
    );
    require_proven(&rig, "work", &sent, &again);
    // The same twice in one breath, which may fall into one batch.
    let twice = chunk(4, 50);
    let (one_answer, other) = tokio::join!(
        one(&rig, "work", twice.clone()),
        one(&rig, "work", twice.clone())
    );
    assert_eq!(one_answer.unwrap().nonces, other.unwrap().nonces);
    rig.crash().await;

    let rig = Rig::open(&world).await;
    let again = one(&rig, "work", sent.clone()).await.unwrap();
    assert_eq!(
        (again.first_index, &again.nonces),
        (first.first_index, &first.nonces)
    );
    require_proven(&rig, "work", &sent, &again);
    assert_eq!(
        rig.service
            .tree(ORIGIN)
            .unwrap()
            .reader
            .view()
            .unwrap()
            .size(),
        751
    );
    let other = one(&rig, "work", chunk(3, 699)).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let mut changed = sent.digests.to_vec();
    changed[0] ^= 1;
    let changed = DigestChunk {
        digests: changed.into(),
        ..sent.clone()
    };
    assert_eq!(
        one(&rig, "work", changed).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    // Other words beside the same digests: what was sealed is answered in full.
    sent.subjects = vec!["new".to_owned(); 700];
    let told = one(&rig, "work", sent).await.unwrap();
    assert_eq!(told.records.len(), 700);
    assert!(Record::decode(&told.records[0]).unwrap().subject.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_kept_and_without_an_id_each_time_is_a_new_one() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let mut sent = chunk(0, 3);
    sent.subjects = ["one", "", "three"].map(str::to_owned).into();
    sent.claimed_at_ms = 1_600_000_000_000;
    let first = one(&rig, "", sent.clone()).await.unwrap();
    require_proven(&rig, "", &sent, &first);
    let second = one(&rig, "", sent.clone()).await.unwrap();
    require_proven(&rig, "", &sent, &second);
    assert_eq!((first.first_index, second.first_index), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_sealed_ends_and_says_how_far_it_came() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let mut talk = Talk::open(&rig, header("work")).await;
    talk.chunk(chunk(0, 10)).await;
    talk.hear().await.unwrap();
    let roles = ["security-lead", "on-call-sre"];
    let order = world.order(
        DirectiveKind::ReadOnly,
        "read-only",
        &[("log", "main")],
        &roles,
    );
    let answered = rig.issue(order).await;
    assert!(answered.is_ok(), "{answered:?}");
    talk.chunk(chunk(1, 10)).await;
    let status = talk.hear().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("I-1"), "{status:?}");
    let metadata = |name| {
        status
            .metadata()
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(metadata("chunks-sealed"), "1");
    assert_eq!(metadata("digests-sealed"), "10");
    assert!(soon(talk.from.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_signed_ends_the_stream_and_is_sealed_once_later() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.fault
        .set(Fault::Fail("the provider is away".to_owned()));
    let status = one(&rig, "work", chunk(0, 100)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.metadata().get("retry-after-ms").is_some());
    rig.fault.set(Fault::None);
    let answer = soon(async {
        loop {
            match one(&rig, "work", chunk(0, 100)).await {
                Ok(answer) => return answer,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
    })
    .await;
    require_proven(&rig, "work", &chunk(0, 100), &answer);
    assert_eq!(answer.first_index, 0, "the staged batch is that chunk");
    rig.until(|log: &LogControl| {
        log.current()
            .filter(|it| it.published_size == 100)
            .map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_send_is_bounded_and_named() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let text = |count| "x".repeat(count);
    let bad_headers = [
        ("request_id", header(&text(44))),
        ("request_id", header("a#1")),
        (
            "tenant",
            SealStreamHeader {
                tenant: "A".to_owned(),
                ..header("")
            },
        ),
        ("digest_algorithm", SealStreamHeader::default()),
        (
            "wait",
            SealStreamHeader {
                wait: 3,
                ..header("")
            },
        ),
        (
            "priority",
            SealStreamHeader {
                priority: 9,
                ..header("")
            },
        ),
    ];
    for (field, header) in bad_headers {
        let status = Talk::open(&rig, header).await.hear().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    let bad_chunks = [
        ("chunk 0: digests of 0 bytes", chunk(0, 0)),
        (
            "chunk 0: digests of 33 bytes",
            DigestChunk {
                digests: vec![0; 33].into(),
                ..chunk(0, 1)
            },
        ),
        ("chunk 0: digests of 262176 bytes", chunk(0, 8_193)),
        (
            "chunk 0: subject",
            DigestChunk {
                subjects: vec![text(257)],
                ..chunk(0, 1)
            },
        ),
        (
            "chunk 0: 1 subjects for 2 digests",
            DigestChunk {
                subjects: vec![text(2)],
                ..chunk(0, 2)
            },
        ),
        (
            "chunk 0: claimed_at_ms",
            DigestChunk {
                claimed_at_ms: -1,
                ..chunk(0, 1)
            },
        ),
    ];
    for (words, chunk) in bad_chunks {
        let status = one(&rig, "work", chunk).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(words), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_out_of_order_end_the_stream() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let mut talk = Talk::open(&rig, header("order")).await;
    talk.chunk(chunk(5, 1)).await;
    talk.hear().await.unwrap();
    talk.chunk(chunk(5, 1)).await;
    assert!(
        talk.hear()
            .await
            .unwrap_err()
            .message()
            .starts_with("number 5")
    );
    let mut talk = Talk::open(&rig, header("twice")).await;
    talk.say(Message::Header(header("twice"))).await;
    assert!(
        talk.hear()
            .await
            .unwrap_err()
            .message()
            .contains("second header")
    );
    let (to, requests) = mpsc::channel(1);
    let mut answers = crate::bulk::open(
        &rig.service,
        "ada".to_owned(),
        ReceiverStream::new(requests),
    );
    to.send(Ok(SealStreamRequest { message: None }))
        .await
        .unwrap();
    assert!(
        soon(answers.next())
            .await
            .unwrap()
            .unwrap_err()
            .message()
            .contains("empty message")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_after_a_bounded_wait() {
    let world = World::new();
    let config = crate::Config {
        bulk_wait_ms: 10,
        ..Rig::config()
    };
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    let all = u32::try_from(rig.service.config.bulk_queue).unwrap();
    let held = rig.service.bulk_room.acquire_many(all - 5).await.unwrap();
    one(&rig, "fits", chunk(0, 5)).await.unwrap();
    let status = one(&rig, "full", chunk(0, 6)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("bulk_queue"), "{status:?}");
    assert!(status.metadata().get("retry-after-ms").is_some());
    drop(held);
    one(&rig, "full", chunk(0, 6)).await.unwrap();
    assert_eq!(
        rig.service.bulk_room.available_permits(),
        rig.service.config.bulk_queue
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let talk = Talk::open(&rig, header("gone")).await;
    for number in 0..20 {
        talk.chunk(chunk(number, 500)).await;
    }
    drop(talk);
    let answer = one(&rig, "next", chunk(0, 1)).await.unwrap();
    require_proven(&rig, "next", &chunk(0, 1), &answer);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limits_hold_in_bulk_and_alone_and_its_repeats_are_free() {
    let world = World::new();
    let limits = crate::TenantLimits {
        max_per_second: 100,
        max_metadata_bytes: 20,
        policies: vec!["default".to_owned()],
        ..crate::TenantLimits::default()
    };
    let foreign = crate::TenantLimits {
        callers: vec!["grace".to_owned()],
        ..crate::TenantLimits::default()
    };
    let config = crate::Config {
        tenants: [("acme", limits), ("default", foreign)]
            .map(|(name, limits)| (name.to_owned(), limits))
            .into(),
        only_listed_tenants: true,
        ..Rig::config()
    };
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    one(&rig, "work", chunk(0, 100)).await.unwrap();
    let status = one(&rig, "work", chunk(1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().contains("\"acme\" may seal 100"),
        "{status:?}"
    );
    let retry = status.metadata().get("retry-after-ms").unwrap();
    assert_eq!(retry.to_str().unwrap(), "11");
    one(&rig, "work", chunk(0, 100)).await.unwrap();
    world.clock.advance_ms(11);
    one(&rig, "work", chunk(1, 1)).await.unwrap();

    let long = DigestChunk {
        subjects: vec!["x".repeat(20)],
        ..chunk(2, 1)
    };
    let status = one(&rig, "work", long).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("max_metadata_bytes"),
        "{status:?}"
    );
    let of = |tenant: &str, policy: &str| SealStreamHeader {
        tenant: tenant.to_owned(),
        policy: policy.to_owned(),
        ..header("")
    };
    for (header, code) in [
        (of("acme", "gold"), Code::InvalidArgument),
        (of("default", ""), Code::PermissionDenied),
        (of("unknown", ""), Code::PermissionDenied),
    ] {
        let mut talk = Talk::open(&rig, header).await;
        talk.chunk(chunk(0, 1)).await;
        assert_eq!(talk.hear().await.unwrap_err().code(), code);
    }
    let alone = rig.seal(1).await.unwrap_err();
    assert_eq!(alone.code(), Code::PermissionDenied, "ada is not grace");
    assert!(alone.message().contains("ada"), "{alone:?}");
}
