//! How another operator takes a log over: mirrored with its anchors, resumed after a kill, served by any web server, and verified when its operator is gone.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sealwarden_tests::binary::{self, Answer};
use sealwarden_tests::s3::{Proxy, Way};
use sealwarden_tests::{Installation, Process, eventually, flips, sealwarden};
use serde_json::Value;

/// A server in a process of its own, ended when it is dropped.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    /// `log serve`.
    fn of(dir: &str) -> Self {
        let mut command = Command::new(binary::path());
        command.args(["log", "serve", dir, "--listen", "127.0.0.1:0", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut document = String::new();
        // It tells its address when it listens.
        while serde_json::from_str::<Value>(&document).is_err() {
            document += &lines.next().expect("it says where it is").expect("text");
        }
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let url = document["url"].as_str().expect("an address").to_owned();
        Self { child, url }
    }

    /// A web server that knows nothing of logs, with a certificate of a private authority.
    fn over_https(dir: &str, certificate: &Path, key: &Path) -> Self {
        let program = "import functools,http.server,ssl,sys\n\
            handler=functools.partial(http.server.SimpleHTTPRequestHandler,directory=sys.argv[1])\n\
            server=http.server.ThreadingHTTPServer(('127.0.0.1',0),handler)\n\
            context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain(sys.argv[2],sys.argv[3])\n\
            server.socket=context.wrap_socket(server.socket,server_side=True)\n\
            print(server.server_address[1],flush=True)\n\
            server.serve_forever()\n";
        let mut command = Command::new("python3");
        command.args(["-c", program, dir]).args([certificate, key]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let port = lines.next().expect("its port").expect("text");
        let url = format!("https://127.0.0.1:{}", port.trim());
        Self { child, url }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}

/// An installation whose seals are anchored each second, and the time-stamping authority.
fn anchored() -> (Installation, Process) {
    let here = Installation::new();
    let dir = here.home().join("tsa");
    let tsa = Process::start(here.home(), "tsa", &["drill-tsa", "--dir", &text(&dir)]);
    let mut words = tsa.ready_line().split_whitespace();
    let url = words
        .find_map(|word| word.strip_prefix("tsa="))
        .expect("its address");
    let mut settings = "sealing:\n  anchors:\n    interval_s: 1\n    tsas:\n".to_owned();
    let roots = dir.join("root.pem");
    writeln!(
        settings,
        "      - {{ name: drill, url: \"{url}\", roots: \"{}\" }}",
        roots.display()
    )
    .expect("text");
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    (here, tsa)
}

/// The other operator's folder, where nothing of ours is known.
struct Other(tempfile::TempDir);

impl Other {
    fn path(&self, name: &str) -> String {
        text(&self.0.path().join(name))
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        sealwarden(self.0.path(), &[arguments, &["--json"]].concat())
    }

    fn mirror(&self, dest: &str, from: &str, more: &[&str]) -> Answer {
        self.run(&[&["log", "mirror", dest, "--from", from], more].concat())
    }
}

#[test]
fn another_operator_takes_a_log_over_with_its_anchors() {
    let (here, tsa) = anchored();
    let up = here.up();
    let first = here.file("first", b"the first document");
    let name = text(&first);
    let seal = ["seal", "--wait", "anchored", "--wait-seconds", "40", &name];
    assert_eq!(here.call(&seal).good()["seals"][0]["stage"], "anchored");
    here.seal(&here.file("second", b"the second"));
    let trust = eventually("the bundle names the authority", || {
        let trust = here.trust("trust.json");
        let verdict = here
            .call(&["verify", &name, "--trust", &text(&trust)])
            .good();
        (verdict["anchors"][0]["tsa"] == "CN=Drill TSA").then_some(trust)
    });
    // A seal without anchors beside it: the anchors must come from the mirror.
    let seal = here.home().join("first.seal");
    let (trust, seal) = (text(&trust), text(&seal));

    // 1. While the first operator is there: everything that it serves, by its one address.
    let other = Other(tempfile::tempdir().expect("a folder"));
    let mine = other.path("mine");
    let report = other
        .mirror(
            &mine,
            &here.address("sealing", "http"),
            &["--trust", &trust],
        )
        .good();
    let anchors = report["mirrored"][0]["anchors"].as_u64();
    assert!(anchors >= Some(1), "{report}");
    up.terminate();
    drop(tsa);

    // 2. The first operator is gone. Serve it; a third operator takes it from there.
    let served = Served::of(&mine);
    let theirs = other.path("theirs");
    let report = other
        .mirror(&theirs, &served.url, &["--trust", &trust])
        .good();
    assert_eq!(
        report["mirrored"][0]["anchors"].as_u64(),
        anchors,
        "{report}"
    );
    drop(served);
    let listed = std::fs::read_to_string(Path::new(&theirs).join("logs.txt"));
    assert_eq!(listed.expect("the list of logs"), "main/1\n");
    let log = format!("{theirs}/main/1");
    let audit = other
        .run(&["log", "check", &theirs, "--trust", &trust])
        .good();
    assert_eq!(audit["logs"][0]["mirror"], true, "{audit}");
    let counted = audit["logs"][0]["anchors"].as_u64();
    assert!(counted >= Some(1), "{audit}");
    finds_every_change_around_the_log(&other, &log, &trust);
    // And what lies above several logs: their list, and the trust bundle for the next time.
    for file in ["logs.txt", "trust.json"] {
        let path = Path::new(&theirs).join(file);
        flips::are_found(&path, || {
            other.run(&["log", "check", &theirs, "--trust", &trust])
        });
    }

    // 3. A seal that the first operator made is proven anew, with the time that an outside authority vouches for.
    let anew = other.path("anew.seal");
    other
        .run(&[
            "log",
            "prove",
            &log,
            "--seal",
            &seal,
            "--out",
            &anew,
            "--anchored",
        ])
        .good();
    let bundle = format!("{log}/trust.json");
    let verdict = other
        .run(&["verify", &name, "--seal", &anew, "--trust", &bundle])
        .good();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    assert_eq!(verdict["anchors"][0]["tsa"], "CN=Drill TSA", "{verdict}");

    // 4. Any web server does, also behind a certificate of a private authority.
    over_https(&here, &other, &theirs, &trust);
    refuses_changed_anchors(&other, &log, &trust);
}

/// What lies around a mirrored log is audited, too: trust bundle, anchors, and their list. Every changed byte of them is found, and the file is named.
fn finds_every_change_around_the_log(other: &Other, log: &str, trust: &str) {
    let check = || other.run(&["log", "check", log, "--trust", trust]);
    let dir = Path::new(log);
    let first = std::fs::read_dir(dir.join("anchors"))
        .expect("anchors")
        .next();
    let anchors = first.expect("a file").expect("a file").path();
    let files = [
        dir.join("trust.json"),
        anchors.clone(),
        dir.join("anchors.txt"),
    ];
    for path in &files {
        flips::are_found(path, check);
    }
    // A bundle of another installation is genuine, and not this log's.
    let stranger = Installation::new().named("stranger");
    let up = stranger.up();
    let theirs = std::fs::read(stranger.trust("trust.json")).expect("a bundle");
    up.terminate();
    let own = std::fs::read(dir.join("trust.json")).expect("a bundle");
    std::fs::write(dir.join("trust.json"), &theirs).expect("another's bundle");
    let found = check().ends_with(1);
    assert_eq!(
        found.json()["first_damage"]["kind"],
        "contradiction",
        "{found}"
    );
    std::fs::write(dir.join("trust.json"), &own).expect("the bundle");
    // An anchor under the name of another size is another checkpoint's; what is missing is missed in the list.
    let moved = dir.join("anchors/00000000000000000000");
    std::fs::rename(&anchors, &moved).expect("another name");
    let found = check().ends_with(1).json();
    assert_eq!(found["first_damage"]["file"], text(&moved), "{found}");
    std::fs::rename(&moved, &anchors).expect("its name");
    check().good();
}

/// The installation's own authority vouches for the server here.
fn over_https(here: &Installation, other: &Other, dir: &str, trust: &str) {
    let file = |end: &str| {
        here.data()
            .join(format!("certificates/sealing-1.{end}.pem"))
    };
    let served = Served::over_https(&format!("{dir}/main/1"), &file("cert"), &file("key"));
    let ca = text(&file("ca"));
    let secure = other.path("secure");
    let report = other
        .mirror(&secure, &served.url, &["--trust", trust, "--ca", &ca])
        .good();
    assert!(
        report["mirrored"][0]["anchors"].as_u64() >= Some(1),
        "{report}"
    );
    other.run(&["log", "check", &secure]).good();
    let strange = other.mirror(&other.path("none"), &served.url, &["--trust", trust]);
    assert_eq!(strange.code, 3, "nobody vouches for the server: {strange}");
}

fn refuses_changed_anchors(other: &Other, log: &str, trust: &str) {
    let folder = Path::new(log).join("anchors");
    let first = std::fs::read_dir(&folder).expect("anchors").next();
    let path = first.expect("a file").expect("a file").path();
    let name = path
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    // Under the name of another size it is another checkpoint's.
    std::fs::rename(&path, folder.join("00000000000000000001")).expect("a name");
    let lying = other.mirror(&other.path("lied-to"), log, &["--trust", trust]);
    let told = lying.code == 4 && lying.stdout.contains("anchors/00000000000000000001");
    assert!(told || name == "00000000000000000001", "{lying}");
}

#[test]
fn a_mirror_that_was_killed_goes_on_where_it_stopped() {
    let here = Installation::new();
    let up = here.up();
    let mut words: Vec<String> = vec!["seal".to_owned()];
    for n in 0..600_u32 {
        let file = here.file(&format!("{n}"), &n.to_le_bytes());
        words.push(text(&file));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    here.call(&words).must_end_with(0);
    let trust = text(&here.trust("trust.json"));
    let address = here.address("sealing", "http");
    let server = address.trim_start_matches("http://").parse();
    let way = Proxy::to(server.expect("an address"));
    // Enough for the first tile; then it falls silent.
    way.set(Way::Silent(18_000));
    let other = Other(tempfile::tempdir().expect("a folder"));
    let dest = other.path("copy");
    let from = format!("{}/main/1", way.url());
    let mut command = binary::command(
        other.0.path(),
        &["log", "mirror", &dest, "--from", &from, "--trust", &trust],
    );
    let mut mirror = command.stdout(Stdio::null()).spawn().expect("it starts");
    let tiles = Path::new(&dest).join("tile/0");
    eventually("the first tiles are there", || {
        let files = std::fs::read_dir(&tiles).ok()?.filter_map(Result::ok);
        files.map(|it| it.path()).find(|it| it.is_file())
    });
    mirror.kill().expect("SIGKILL");
    mirror.wait().expect("it ended");
    assert!(
        !Path::new(&dest).join("checkpoint").exists(),
        "no promise before the tiles"
    );
    way.set(Way::Open);
    let report = other.mirror(&dest, &from, &["--trust", &trust]).good();
    assert_eq!(report["mirrored"][0]["size"], 600, "{report}");
    assert!(
        report["mirrored"][0]["resumed"].as_u64() >= Some(1),
        "{report}"
    );
    other
        .run(&["log", "check", &dest, "--trust", &trust])
        .good();
    up.terminate();
}
