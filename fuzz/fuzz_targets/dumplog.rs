//! Any bytes as a log of the dump object space, as they are and with the checksums that they need:
//! no panic, no hang, no memory beyond bounds, and numbers that agree with each other.
#![no_main]

use std::fs;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use objspace_log::query::Query;
use objspace_log::{Error, Log};

const PREAMBLE: usize = 16;
const HEADER: usize = 112;

/// In memory, where there is such a place: each input is a file.
fn path() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("objspace-fuzz-{}", std::process::id()))
}

/// Gives each block the checksums that its bytes need; otherwise nothing behind them is reached.
fn seal(bytes: &mut [u8]) {
    let mut start = PREAMBLE;
    while let Some(header) = bytes.get(start..start + HEADER) {
        let size = header[8..12].try_into().map_or(0, u32::from_le_bytes) as usize;
        let end = (start + HEADER).saturating_add(size).min(bytes.len());
        let payload = crc32fast::hash(&bytes[start + HEADER..end]);
        bytes[start..start + 4].copy_from_slice(b"OBLK");
        bytes[start + 12..start + 16].copy_from_slice(&payload.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[start + 8..start + HEADER]);
        bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        start = end;
    }
}

fn read(log: &Log) -> Result<(), Error> {
    let (first, last) = log.range();
    let found = log.find(&Query::default(), false, 1 << 16)?;
    for (number, operation) in (first..).zip(&found) {
        assert_eq!(operation.number, number);
    }
    for operation in found.iter().take(50) {
        let stack = log.stack(operation.number)?;
        assert_eq!(stack.last().map(|(number, _)| *number), Some(operation.number));
        assert_eq!(log.operation(operation.number)?.operands, operation.operands);
    }
    let mut serials = Vec::new();
    for index in 0..log.blocks().len() {
        log.summary(index)?;
        serials.extend(log.objects_of(index)?.iter().take(8).map(|object| object.serial));
    }
    for serial in serials.into_iter().take(20) {
        match log.life(serial) {
            Ok(life) => assert!(life.operations.is_sorted_by(|a, b| a.number < b.number)),
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
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
    Ok(())
}

fuzz_target!(|input: (bool, &[u8])| {
    let (sealed, rest) = input;
    let mut bytes = objspace_log::MAGIC.to_vec();
    bytes.extend(objspace_log::VERSION.to_le_bytes());
    bytes.extend((HEADER as u32).to_le_bytes());
    bytes.extend_from_slice(rest);
    if sealed {
        seal(&mut bytes);
    }
    let path = path();
    fs::write(&path, &bytes).expect("a file in memory");
    if let Ok(log) = Log::open(&path) {
        let _ = read(&log);
    }
});
