//! File systems of a test's own: one that is small enough to be filled, and one whose power can fail.
//!
//! A test that mounts one runs where it sees its own mounts only (`tests/run` starts it so); what it mounted ends with it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Asks a file system to go down now: what was not made durable is lost, as when the power fails. Linux names it `EXT4_IOC_SHUTDOWN` with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`; there is no safe call for it in Rust.
const POWER_FAILS: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
/// The most that one write takes of a disk that is being filled, bytes.
const PIECE: usize = 64 * 1024;

/// A mounted file system. It is taken away when it is dropped.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    /// What an `ext4` lies in; none for one in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// One in memory, of so many MiB, mounted at `at`.
    pub fn small(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).expect("a folder to mount at");
        let size = format!("size={mib}m");
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(at),
        );
        Self {
            at: at.to_owned(),
            image: None,
        }
    }

    /// An `ext4` of so many MiB in a file of the folder `within`, mounted at `at`.
    pub fn ext4(at: &Path, within: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(at).expect("a folder to mount at");
        let image = within.join("disk.ext4");
        let file = File::create(&image).expect("the disk's image");
        file.set_len(mib * 1024 * 1024).expect("an empty image");
        must(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let disk = Self {
            at: at.to_owned(),
            image: Some(image),
        };
        disk.mount();
        disk
    }

    fn mount(&self) {
        let image = self.image.as_ref().expect("an image");
        must(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(&self.at),
        );
    }

    /// Loses the power: from here on nothing reaches the disk, and what was not durable is gone.
    pub fn lose_power(&self) {
        must(
            Command::new("python3")
                .args(["-c", POWER_FAILS])
                .arg(&self.at),
        );
    }

    /// The power is back. Nobody may have a file of it open.
    pub fn regain_power(&self) {
        must(Command::new("umount").arg(&self.at));
        self.mount();
    }

    /// Takes all space that is left, but for so many bytes.
    pub fn fill_but(&self, bytes: u64) -> Filler {
        let path = self.at.join("filler");
        let mut file = File::create(&path).expect("a filler");
        loop {
            let stat = rustix::fs::statvfs(&self.at).expect("the free space");
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let over = usize::try_from(free.saturating_sub(bytes)).unwrap_or(usize::MAX);
            // A disk that others write to may be full before that.
            if over == 0 || file.write_all(&vec![7; over.min(PIECE)]).is_err() {
                return Filler(path);
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whatever a failed test left open there ends with its process.
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
    }
}

/// Takes space until it is dropped.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn must(command: &mut Command) {
    let output = command.output().expect("a program of the system");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
