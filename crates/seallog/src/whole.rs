//! Whether one `syncfs` is as good as a sync of every file.
//!
//! `syncfs(2)` reports failed writes since Linux 5.8, and a file system must write its journal and the device's cache in it.
//! Both are known of the file systems below; on any other each file is synced by itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// `f_type` of statfs(2): ext4 (and ext2, ext3), XFS, Btrfs, tmpfs.
const KNOWN: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
/// The first kernel whose `syncfs` reports failed writes.
const REPORTS_SINCE: (u32, u32) = (5, 8);

/// A folder that stays open: failed writes are counted from here on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Opened {
    /// Opens a folder whose file system may be synced as a whole; `None` where it may not.
    pub(crate) fn at(dir: &Path) -> io::Result<Option<Self>> {
        let file = File::open(dir)?;
        let kind = u64::try_from(rustix::fs::fstatfs(&file)?.f_type).ok();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let good = kind.is_some_and(|kind| KNOWN.contains(&kind)) && reports(&release);
        Ok(good.then(|| Self {
            path: dir.to_path_buf(),
            file,
        }))
    }
}

/// Whether a kernel of this release reports failed writes in `syncfs`; one that is not understood counts as old.
fn reports(release: &str) -> bool {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut number = || numbers.next().and_then(|it| it.parse::<u32>().ok());
    number().zip(number()).is_some_and(|it| it >= REPORTS_SINCE)
}

#[cfg(test)]
mod tests {
    use super::reports;

    #[test]
    fn only_kernels_that_report_failed_writes_are_trusted() {
        for good in ["5.8.0", "5.10.0-31-amd64", "6.1", "10.0.1"] {
            assert!(reports(good), "{good}");
        }
        for bad in ["5.7.19", "4.19.0", "", "five.eight", "6"] {
            assert!(!reports(bad), "{bad}");
        }
    }
}
