//! Room for blobs on the filesystem of a stage.

use super::own::OwnDir;

/// Left free on the filesystem: a hundredth of it, but no more than this many bytes.
const MOST_MARGIN: u64 = 64 << 20;

/// The room that is left for blobs.
pub(super) struct Room {
    free: u64,
    left: u64,
    root: String,
}

impl Room {
    pub(super) fn of(own: &OwnDir) -> Room {
        let root = own.root().path().display().to_string();
        let Ok(disk) = rustix::fs::fstatvfs(own.stage()) else {
            // Not known beforehand; writing to a full disk fails and says so.
            return Room { free: u64::MAX, left: u64::MAX, root };
        };
        // Blocks that are kept for root are for us when we are root.
        let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        let free = blocks.saturating_mul(disk.f_frsize);
        let margin = (disk.f_blocks.saturating_mul(disk.f_frsize) / 100).min(MOST_MARGIN);
        Room { free, left: free.saturating_sub(margin), root }
    }

    /// Sets `size` bytes aside, or says why there is no room for them.
    pub(super) fn take(&mut self, size: u64) -> Result<(), String> {
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "needs {}, {} free on {}",
                human_bytes(size),
                human_bytes(self.left.min(self.free)),
                self.root
            )),
        }
    }
}

/// Such as `1.2 GiB`.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let Some(first) = bytes.checked_ilog2().map(|bits| bits / 10).filter(|unit| *unit > 0) else {
        return format!("{bytes} B");
    };
    let unit = (first as usize).min(UNITS.len());
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit - 1])
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_288_490_189, "1.2 GiB"),
            (300 << 20, "300.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
