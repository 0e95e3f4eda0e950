//! How much room there is where a lake goes.

use std::path::{Path, PathBuf};

use rankmill_engine::Location;

/// Free bytes for this user at a place; `None` where that isn't known: on another store than the local disk.
pub(crate) fn free_bytes(place: &Location) -> Option<u64> {
    (place.store_url().scheme() == "file").then(|| of_folder(&PathBuf::from(place.to_string())))?
}

/// Of the folder, or of the one in which it is going to be.
fn of_folder(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    // Some file systems have no blocks at all, such as /proc.
    let free = stat.f_bavail.checked_mul(stat.f_frsize);
    free.filter(|_| stat.f_blocks > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_a_bucket_does_not_say() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("not/yet/there");
        let place = Location::parse(place.to_str().unwrap()).unwrap();
        let free = free_bytes(&place).unwrap();
        assert!((1..1 << 60).contains(&free), "{free}");
        assert_eq!(free_bytes(&Location::parse("/proc/lake").unwrap()), None);
        let elsewhere = Location::parse("s3://bucket/lake").unwrap();
        assert_eq!(free_bytes(&elsewhere), None);
    }
}
