//! A connection between two processes that can be cut and mended.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hands connections through to a server. It serves as long as the test's process lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A way to the server at this address, `host:port`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let is_cut = Arc::new(AtomicBool::new(false));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (server, cut, streams) = (server.to_owned(), Arc::clone(&is_cut), Arc::clone(&open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if cut.load(Ordering::SeqCst) {
                    continue; // dropped: whoever connects is hung up on
                }
                let Ok(far) = TcpStream::connect(&server) else {
                    continue;
                };
                let mut open = streams.lock().unwrap_or_else(PoisonError::into_inner);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let pair = (from.try_clone(), to.try_clone(), from.try_clone());
                    if let (Ok(from), Ok(to), Ok(kept)) = pair {
                        open.push(kept);
                        std::thread::spawn(move || copy(from, to));
                    }
                }
            }
        });
        Self {
            address,
            is_cut,
            open,
        }
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends every connection and takes no new one.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // One that has ended already cannot be ended.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Takes new connections again.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other half may have ended both.
    drop(to.shutdown(Shutdown::Both));
}
