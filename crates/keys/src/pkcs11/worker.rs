//! The worker process: loads the module, logs in, and does one request after the other.
//!
//! A PKCS#11 call has no time-out and a module can crash its process, so the module lives here and nowhere else.
//! Whoever is stuck here is killed by the provider. The module works in a thread of its own, so that the end of the
//! provider (end of input) ends this process even while the module hangs.

use std::{
    fs::File,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use cryptoki::types::AuthPin;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getpid, kill_process, set_dumpable_behavior,
    setrlimit,
};
use zeroize::Zeroizing;

use super::{
    problem::TokenProblem,
    protocol::{self, Answer, Call, Done, Hello, VERSION},
    token::Token,
};

/// How long the module may take to end once nobody wants anything of it.
const END: Duration = Duration::from_secs(2);

/// The first file descriptor that is not standard input, output or error.
const FIRST_FREE: i32 = 3;

/// A frame on its way to the module's thread.
type Frame = Zeroizing<Vec<u8>>;

/// Serves one provider over standard input and output until the input ends. The hidden subcommand `pkcs11-worker` does
/// this and nothing else; started by hand it waits for bytes that a person does not type.
pub fn run_worker() -> io::Result<()> {
    // A crashing module must not write the PIN into a core file, nor another process of this user read it here.
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, no_core)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Not `io::stdin()`: its buffer would keep the PIN.
    let input = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), FIRST_FREE)?);
    let output = private_output()?;
    let (frames, work) = sync_channel::<Frame>(1);
    let (ended, end) = sync_channel::<()>(1);
    let module = thread::Builder::new()
        .name("module".to_owned())
        .spawn(move || {
            let result = serve(&work, output);
            // There is room for the one message, and nobody misses it who does not wait.
            ended.try_send(()).ok();
            result
        })?;
    let read = forward(input, frames);
    match end.recv_timeout(END) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
        // A module that hangs now would also hang in this process's exit.
        Err(RecvTimeoutError::Timeout) => kill_process(getpid(), Signal::KILL)?,
    }
    let served = module
        .join()
        .map_err(|_| io::Error::other("the module's thread panicked"))?;
    read.and(served)
}

/// Keeps the pipe for answers, and sends what the module itself prints to standard error.
fn private_output() -> io::Result<File> {
    let output = rustix::io::fcntl_dupfd_cloexec(io::stdout(), FIRST_FREE)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(output))
}

/// Hands frames on until the input ends.
#[expect(
    clippy::needless_pass_by_value,
    reason = "dropping the sender tells the module's thread to end"
)]
fn forward(mut input: File, frames: SyncSender<Frame>) -> io::Result<()> {
    while let Some(frame) = protocol::read_frame(&mut input)? {
        if frames.send(frame).is_err() {
            break; // the module's thread has ended, and says why
        }
    }
    Ok(())
}

fn serve(frames: &Receiver<Frame>, mut output: File) -> io::Result<()> {
    let (Ok(hello), Ok(pin)) = (frames.recv(), frames.recv()) else {
        return Ok(()); // the provider left before it had said anything
    };
    let hello: Hello = protocol::decode(&hello)?;
    let opened = open(&hello, &pin)?;
    drop(pin);
    let (mut token, outcome) = match opened {
        Ok(token) => {
            let ready = Done::Ready {
                protocol: VERSION,
                token: token.facts().clone(),
            };
            (Some(token), Ok(ready))
        }
        Err(problem) => (None, Err(problem)),
    };
    answer(&mut output, &Answer { id: 0, outcome })?;
    while let (Some(token), Ok(frame)) = (token.as_mut(), frames.recv()) {
        let call: Call = protocol::decode(&frame)?;
        let outcome = token.perform(&call.work);
        let id = call.id;
        answer(&mut output, &Answer { id, outcome })?;
    }
    Ok(())
}

fn open(hello: &Hello, pin: &[u8]) -> io::Result<Result<Token, TokenProblem>> {
    if hello.protocol != VERSION {
        return Err(io::Error::other(format!(
            "the provider speaks version {} and this worker {VERSION}: restart the service after an upgrade",
            hello.protocol
        )));
    }
    let pin = std::str::from_utf8(pin)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the PIN is not UTF-8"))?;
    // A boxed text of the exact size: no copy stays behind, and it is zeroized when dropped.
    let pin = AuthPin::new(Box::from(pin));
    Ok(Token::open(&hello.module, &hello.token, pin))
}

fn answer(output: &mut File, answer: &Answer) -> io::Result<()> {
    protocol::write_frame(output, &protocol::encode(answer)?)
}
