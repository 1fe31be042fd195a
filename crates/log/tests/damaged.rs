//! Logs that are cut off, flipped, or made to harm: an error or a shorter log, and nothing worse.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use objspace_log::query::Query;
use objspace_log::{Error, Log};
use proptest::prelude::*;

const PREAMBLE: usize = 16;
const HEADER: usize = 112;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("objspace-damaged-{}-{number}", std::process::id())))
    }

    fn open(&self, bytes: &[u8]) -> Result<Log, Error> {
        fs::write(&self.0, bytes).unwrap();
        Log::open(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn kept() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/dump/log.dump"))
        .unwrap()
}

/// Where blocks begin and end.
fn blocks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = PREAMBLE;
    while let Some(header) = bytes.get(start..start + HEADER) {
        let size = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let end = (start + HEADER).saturating_add(size).min(bytes.len());
        found.push((start, end));
        start = end;
    }
    found
}

/// Gives each block the checksums that its bytes need.
fn seal(bytes: &mut [u8]) {
    for (start, end) in blocks(bytes) {
        let payload = crc32fast::hash(&bytes[start + HEADER..end]);
        bytes[start + 12..start + 16].copy_from_slice(&payload.to_le_bytes());
        let header = crc32fast::hash(&bytes[start + 8..start + HEADER]);
        bytes[start + 4..start + 8].copy_from_slice(&header.to_le_bytes());
    }
}

/// Asks everything that can be asked.
fn read(log: &Log) -> Result<u64, Error> {
    let (first, last) = log.range();
    let mut count = 0;
    for operation in log.find(&Query::default(), false, usize::MAX)? {
        assert!((first..=last).contains(&operation.number));
        count += 1;
        log.stack(operation.number)?;
    }
    assert_eq!(count, log.operations());
    assert_eq!(
        log.find(&Query::default(), true, usize::MAX)?.len() as u64,
        count
    );
    for index in 0..log.blocks().len() {
        log.summary(index)?;
        for object in log.objects_of(index)?.iter() {
            match log.life(object.serial) {
                Ok(_) | Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    log.counts()?;
    log.receiver_counts()?;
    for parent in [0, first, last] {
        match log.children(parent, 0, 10) {
            Ok(_) | Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[test]
fn a_log_cut_off_anywhere_is_read_up_to_its_last_whole_block() {
    let bytes = kept();
    let whole: Vec<(usize, u32)> = {
        let scratch = Scratch::new();
        let log = scratch.open(&bytes).unwrap();
        blocks(&bytes)
            .iter()
            .zip(log.blocks())
            .map(|((_, end), block)| (*end, block.operations))
            .collect()
    };
    let scratch = Scratch::new();
    for length in 0..bytes.len() {
        let opened = scratch.open(&bytes[..length]);
        if length < PREAMBLE {
            assert!(matches!(opened, Err(Error::NotALog)));
            continue;
        }
        let log = opened.unwrap();
        let there = whole.iter().filter(|(end, _)| *end <= length);
        let operations: u64 = there.clone().map(|(_, count)| u64::from(*count)).sum();
        let end = there.map(|(end, _)| *end).max().unwrap_or(PREAMBLE);
        assert_eq!(read(&log).unwrap(), operations, "cut at {length}");
        assert_eq!(
            log.incomplete(),
            (length > end).then(|| (length - end) as u64)
        );
    }
}

#[test]
fn no_flipped_bit_passes_unnoticed() {
    let bytes = kept();
    let scratch = Scratch::new();
    // The last of the reserved bytes of the preamble are not looked at.
    for at in (0..12).chain(PREAMBLE..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let read = scratch
            .open(&changed)
            .and_then(|log| Ok((read(&log)?, log.incomplete())));
        assert!(
            matches!(read, Ok((_, Some(_))) | Err(_)),
            "a flipped bit of byte {at} passed"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_bytes_with_right_checksums_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = kept();
        let cut = length.index(4 * bytes.len()).min(bytes.len());
        bytes.truncate(cut.max(PREAMBLE));
        for (at, to) in &changes {
            let at = PREAMBLE + at.index(bytes.len().max(PREAMBLE + 1) - PREAMBLE);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *to;
            }
        }
        seal(&mut bytes);
        let scratch = Scratch::new();
        if let Ok(log) = scratch.open(&bytes) {
            let _ = read(&log);
        }
    }
}

/// A block of these sections, which are stored as they are.
fn block(first: u64, operations: u32, sections: [&[u8]; 5]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(b"OBLK");
    let size: usize = sections.iter().map(|section| section.len()).sum();
    bytes[8..12].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    bytes[24..28].copy_from_slice(&operations.to_le_bytes());
    for (index, section) in sections.iter().enumerate() {
        let length = (section.len() as u32).to_le_bytes();
        bytes[64 + 8 * index..68 + 8 * index].copy_from_slice(&length);
        bytes[68 + 8 * index..72 + 8 * index].copy_from_slice(&length);
        bytes.extend_from_slice(section);
    }
    bytes
}

fn log_of(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = kept()[..PREAMBLE].to_vec();
    bytes.extend(parts.iter().flatten());
    seal(&mut bytes);
    bytes
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let empty: [&[u8]; 5] = [b"", b"", b"\0", b"", b"\0\0"];
    let good = block(1, 0, empty);
    assert_eq!(
        scratch
            .open(&log_of(std::slice::from_ref(&good)))
            .unwrap()
            .operations(),
        0
    );
    let refused = |parts: &[Vec<u8>]| {
        let found = scratch.open(&log_of(parts)).and_then(|log| read(&log));
        assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
    };
    // Numbers of operations: from zero, beyond all, not one behind the other, more than there are.
    refused(&[block(0, 0, empty)]);
    refused(&[block(u64::MAX, 1, empty)]);
    refused(&[good, block(7, 0, empty)]);
    refused(&[block(1, u32::MAX, empty)]);
    refused(&[block(1, 1, empty)]);
    // An operation more than promised: `1 << 4`: no operands, ended; site 0.
    refused(&[block(1, 0, [b"", b"", b"\0", b"\x02\0", b"\0\0"])]);
    // Open when the block began: an operation that begins in it, one that is part of a later one.
    let one = |open| block(9, 1, [b"", b"", open, b"\x02\0", b"\0\x01\0"]);
    refused(&[one(b"\x01\0\0\x01\x09\0")]);
    refused(&[one(b"\x01\0\0\x02\x05\0\0\0")]);
    assert_eq!(
        scratch
            .open(&log_of(&[one(b"\x01\0\0\x01\x08\0")]))
            .unwrap()
            .operations(),
        1
    );
    // A section that claims to become larger than any is.
    let mut large = block(1, 0, empty);
    large[64 + 8 * 3 + 4..64 + 8 * 3 + 8].copy_from_slice(&(200_u32 << 20).to_le_bytes());
    refused(&[large]);
}

#[test]
fn many_threads_are_no_burden() {
    let mut rows = Vec::new();
    let mut threads = Vec::new();
    for index in 0..60_000_u32 {
        let number = [
            index as u8 & 0x7f | 0x80,
            (index >> 7) as u8 & 0x7f | 0x80,
            (index >> 14) as u8,
        ];
        rows.push(10);
        rows.extend(number);
        threads.push(4);
        threads.extend(number);
        threads.extend([0, 0]);
    }
    let scratch = Scratch::new();
    let log = scratch
        .open(&log_of(&[block(
            1,
            0,
            [&threads, b"", b"\0", &rows, b"\0\0"],
        )]))
        .unwrap();
    assert_eq!(log.tables().threads.len(), 60_000);
    log.block(0).unwrap();
}
