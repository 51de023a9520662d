//! The worker process for this crate's tests. Besides working it can be told to lose its sessions: while the file
//! named by `PKCS11_TEST_LOSE_SESSIONS` exists, the module is finalised and initialised under the worker's feet, and the
//! file is removed. Beside it, `<file>.flood` and `<file>.garble` make it write to its pipe what it was not asked for.
//!
//! `pkcs11-test-worker certificate MODULE TOKEN PIN ID FILE` is no worker: it puts a certificate (DER) onto the token.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, CertificateType, ObjectClass},
    session::UserType,
    types::AuthPin,
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, module, token, pin, id, file] = arguments.as_slice()
        && verb == "certificate"
    {
        return put_certificate(Path::new(module), token, pin, id, Path::new(file));
    }
    if let (Some(order), Some(module)) = (
        std::env::var_os("PKCS11_TEST_LOSE_SESSIONS").map(PathBuf::from),
        std::env::var_os("PKCS11_TEST_MODULE").map(PathBuf::from),
    ) {
        // The pipe, before the worker keeps it for itself.
        let pipe = File::from(rustix::io::dup(io::stdout())?);
        thread::spawn(move || obey(&order, &module, pipe));
    }
    sealwarden_keys::pkcs11::run_worker()
}

/// Goes on until something does not work.
fn obey(order: &Path, module: &Path, mut pipe: File) -> io::Error {
    loop {
        match follow(order, module, &mut pipe) {
            Ok(()) => {}
            Err(error) => return error,
        }
        // bounded poll: the test orders it through a file, and ends this process.
        thread::sleep(Duration::from_millis(5));
    }
}

fn follow(order: &Path, module: &Path, pipe: &mut File) -> io::Result<()> {
    let other = |ending: &str| PathBuf::from(format!("{}.{ending}", order.display()));
    if order.exists() {
        lose_sessions(module)?;
        std::fs::remove_file(order)?;
    }
    if other("garble").exists() {
        std::fs::remove_file(other("garble"))?;
        // A whole frame, in the right form, that answers a question that nobody asked.
        let answer = br#"{"id":99,"outcome":{"Ok":"destroyed"}}"#;
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        pipe.write_all(&length.to_be_bytes())?;
        pipe.write_all(answer)?;
    }
    if other("flood").exists() {
        std::fs::remove_file(other("flood"))?;
        // Until whoever reads it has had enough and ends this process.
        loop {
            pipe.write_all(&[0xff; 4096])?;
        }
    }
    Ok(())
}

fn put_certificate(module: &Path, token: &str, pin: &str, id: &str, file: &Path) -> io::Result<()> {
    let module = Pkcs11::new(module).map_err(io::Error::other)?;
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(threads).map_err(io::Error::other)?;
    let slots = module
        .get_slots_with_initialized_token()
        .map_err(io::Error::other)?;
    let slot = slots.into_iter().find(|slot| {
        let info = module.get_token_info(*slot);
        info.is_ok_and(|info| info.label() == token)
    });
    let slot = slot.ok_or_else(|| io::Error::other("no such token"))?;
    let session = module.open_rw_session(slot).map_err(io::Error::other)?;
    session
        .login(UserType::User, Some(&AuthPin::new(Box::from(pin))))
        .map_err(io::Error::other)?;
    let template = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Id(hex::decode(id).map_err(io::Error::other)?),
        Attribute::Subject(b"\x30\x00".to_vec()),
        Attribute::Value(std::fs::read(file)?),
    ];
    session.create_object(&template).map_err(io::Error::other)?;
    Ok(())
}

fn lose_sessions(module: &Path) -> io::Result<()> {
    let module = Pkcs11::new(module).map_err(io::Error::other)?;
    module.clone().finalize().map_err(io::Error::other)?;
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(threads).map_err(io::Error::other)
}
