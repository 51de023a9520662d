//! The worker process for this crate's tests. Besides working it can be told to lose its sessions: while the file
//! named by `PKCS11_TEST_LOSE_SESSIONS` exists, the module is finalised and initialised under the worker's feet, and the
//! file is removed.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};

fn main() -> io::Result<()> {
    if let (Some(order), Some(module)) = (
        std::env::var_os("PKCS11_TEST_LOSE_SESSIONS").map(PathBuf::from),
        std::env::var_os("PKCS11_TEST_MODULE").map(PathBuf::from),
    ) {
        thread::spawn(move || obey(&order, &module));
    }
    sealwarden_keys::pkcs11::run_worker()
}

/// Goes on until something does not work.
fn obey(order: &Path, module: &Path) -> io::Error {
    loop {
        if order.exists() {
            let lost = lose_sessions(module).and_then(|()| std::fs::remove_file(order));
            if let Err(error) = lost {
                return error;
            }
        }
        // bounded poll: the test orders it through a file, and ends this process.
        thread::sleep(Duration::from_millis(5));
    }
}

fn lose_sessions(module: &Path) -> io::Result<()> {
    let module = Pkcs11::new(module).map_err(io::Error::other)?;
    module.clone().finalize().map_err(io::Error::other)?;
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(threads).map_err(io::Error::other)
}
