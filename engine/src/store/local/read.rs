//! Reads parts of files into memory that is used again.
//!
//! A scan reads megabytes at a time and drops them soon. Fresh memory costs about as much as the
//! copying: the kernel clears each page of it, at a fault each.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes that are kept for reads to come, at most.
const KEPT_BYTES: usize = 32 << 20;
/// The allocator uses smaller ones again by itself.
const LEAST_KEPT: usize = 128 << 10;
/// A buffer may be so many times as long as what is read into it.
const MOST_SPARE: usize = 4;

/// Memory of reads that are done.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: Mutex<Vec<Vec<u8>>>,
}

/// What was read, in memory that goes back when it is dropped.
struct Part {
    /// Longer than what was read.
    buffer: Vec<u8>,
    length: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.buffers.put(std::mem::take(&mut self.buffer));
    }
}

impl Buffers {
    /// The bytes of a file in a range.
    ///
    /// # Errors
    /// Also if the file ends before.
    pub(super) fn read(self: &Arc<Self>, mut file: &File, range: &Range<u64>) -> io::Result<Bytes> {
        file.seek(SeekFrom::Start(range.start))?;
        let length = range.end.saturating_sub(range.start);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if length < LEAST_KEPT {
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut part = Part {
            buffer: self.take(length),
            length,
            buffers: Arc::clone(self),
        };
        file.read_exact(&mut part.buffer[..length])?;
        Ok(Bytes::from_owner(part))
    }

    /// The smallest that is long enough. New ones are longer, for parts that are a little longer;
    /// memory that is not touched isn't there.
    fn take(&self, length: usize) -> Vec<u8> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().enumerate();
        let fits = length..=length.saturating_mul(MOST_SPARE);
        let fitting = fitting.filter(|(_, buffer)| fits.contains(&buffer.len()));
        match fitting.min_by_key(|(_, buffer)| buffer.len()) {
            Some((at, _)) => kept.remove(at),
            None => {
                drop(kept);
                match length.next_power_of_two() {
                    longer if longer <= KEPT_BYTES / MOST_SPARE => vec![0; longer],
                    _ => vec![0; length],
                }
            }
        }
    }

    fn put(&self, buffer: Vec<u8>) {
        if buffer.len() > KEPT_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(buffer);
        let bytes = |kept: &[Vec<u8>]| kept.iter().map(Vec::len).sum::<usize>();
        // The oldest go, so that what is of no use now doesn't stay.
        while bytes(&kept) > KEPT_BYTES {
            kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn parts_are_read_into_what_parts_before_left() {
        let mut file = tempfile::tempfile().unwrap();
        let all: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&all).unwrap();
        let buffers = Arc::new(Buffers::default());
        let ranges = [0..3, 5..700_000, 10..600_000, 300_000..1_000_000, 7..7];
        for _ in 0..3 {
            let read = |range| buffers.read(&file, range).unwrap();
            let parts: Vec<Bytes> = ranges.iter().map(read).collect();
            for (range, part) in ranges.iter().zip(&parts) {
                assert!(part == &all[range.start as usize..range.end as usize]);
            }
        }
        assert_eq!(buffers.kept.lock().unwrap().len(), 3);
        let beyond = buffers.read(&file, &(900_000..1_100_000)).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn not_all_is_kept() {
        let buffers = Buffers::default();
        for _ in 0..20 {
            buffers.put(vec![0; KEPT_BYTES / 4]);
        }
        assert_eq!(buffers.kept.lock().unwrap().len(), 4);
        // What can't be kept drives nothing out, and a small part takes no large buffer.
        buffers.put(vec![0; 2 * KEPT_BYTES]);
        assert_eq!(buffers.take(LEAST_KEPT).len(), LEAST_KEPT);
        assert_eq!(buffers.kept.lock().unwrap().len(), 4);
        assert_eq!(buffers.take(KEPT_BYTES / 8 + 1).len(), KEPT_BYTES / 4);
        assert_eq!(buffers.kept.lock().unwrap().len(), 3);
    }
}
