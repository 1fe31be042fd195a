//! A log that is kept in the repository: what this version of the format means must not change
//! unnoticed.
//!
//! `tests/vectors/dump/log.dump` was written by the writer, from the content below; `log.txt` beside
//! it is what a reader must find there. After a deliberate change of the format (and of
//! `objspace_log::VERSION`, and of `docs/dump-format.md`) both are made anew by
//!
//! ```text
//! OBJSPACE_GOLDEN=write cargo test -p objspace-log --test golden
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use objspace_log::query::Query;
use objspace_log::raw::{self, SiteRow};
use objspace_log::{Kind, Log, Options, Payload, Row, Status, Value, Writer};

/// A kept file; made anew first, if that is asked for.
fn kept(name: &str) -> PathBuf {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        if std::env::var_os("OBJSPACE_GOLDEN").is_some_and(|value| value == "write") {
            write(&path("log.dump"));
            let text = told(&Log::open(path("log.dump")).unwrap());
            fs::write(path("log.txt"), text).unwrap();
        }
    });
    path(name)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/dump")
        .join(name)
}

/// One site of each kind, in the order of their numbers: site `n` is of kind `n + 1`.
fn tables(words: &mut Vec<u64>) {
    for text in ["app.py", "App.run", "app", "name", "größe"] {
        raw::push_row(words, &Row::String(text));
    }
    raw::push_row(
        words,
        &Row::Code {
            file: 0,
            name: 1,
            module: 2,
            line: 10,
        },
    );
    for (index, &kind) in (0..).zip(Kind::ALL) {
        raw::push_row(
            words,
            &Row::Site(SiteRow {
                code: 0,
                kind,
                name: 3 + index % 2,
                offset: 2 * index,
                position: [11 + index, 12 + index, index, 300 + index],
            }),
        );
    }
    for (index, ident, name) in [(0, 140_000, "MainThread"), (3, 140_001, "worker")] {
        raw::push_row(words, &Row::Thread { index, ident, name });
    }
    let (key, value) = ("python", "3.13.0");
    raw::push_row(words, &Row::Meta { key, value });
}

/// Objects of every payload, with every flag: `type`, a class, and objects of it.
fn objects(words: &mut Vec<u64>) {
    raw::push_object(words, 1, 1, Payload::CLASS, 0, b"builtins.type");
    raw::push_object(words, 2, 1, Payload::CLASS, 0, b"app.Order");
    raw::push_object(words, 3, 2, Payload::NONE, 0, b"");
    raw::push_object(words, 5, 2, Payload::TEXT, 0, b"(7, 'new')");
    let text = "größe".as_bytes();
    raw::push_object(words, 6, 1, Payload::STR, 0, text);
    raw::push_object(words, 7, 1, Payload::STR, raw::TRUNCATED, b"aaaa");
    raw::push_object(words, 8, 1, Payload::BYTES, 0, b"\x00\xff");
    raw::push_object(words, 9, 1, Payload::INT, 0, b"-0x100000000000000000");
    raw::push_object(words, 10, 1, Payload::INT, raw::TRUNCATED, b"0x1000");
}

fn write(path: &Path) {
    let writer = Writer::start(Options::new(path)).unwrap();
    let mut words = vec![raw::THREAD];
    tables(&mut words);
    objects(&mut words);
    // 1 goes on until the third block; its parts are 2 and 3.
    words.push(raw::TIME | 1_000 << 8);
    raw::push_operation(&mut words, 6, &[Value::Object(2), Value::Int(-3)]);
    raw::push_operation(
        &mut words,
        1,
        &[Value::Object(3), Value::Float(-0.5), Value::Absent],
    );
    raw::push_end(&mut words, Status::Done, None);
    words.push(raw::TASK | 5 << 8);
    raw::push_row(
        &mut words,
        &Row::Task {
            serial: 5,
            name: "job",
        },
    );
    raw::push_operation(&mut words, 3, &[Value::Object(5), Value::Object(6)]);
    words.push(raw::TIME | 2_500 << 8);
    raw::push_end(&mut words, Status::Raised, Some(Value::Object(7)));
    let words = writer.send(words).unwrap();

    // Another thread, which has every kind of value and every kind of operation.
    let mut words = words;
    words.push(raw::THREAD | 3 << 8);
    let values = [
        Value::Absent,
        Value::None,
        Value::True,
        Value::False,
        Value::Ellipsis,
        Value::NotImplemented,
        Value::Unknown,
        Value::Int(*raw::INTS.start()),
        Value::Int(*raw::INTS.end()),
        Value::Float(f64::NEG_INFINITY),
        Value::Float(f64::MIN_POSITIVE),
        Value::Object(8),
        Value::Object(9),
        Value::Int(0),
        Value::Int(1),
        Value::Int(-1),
        Value::Int(64),
    ];
    raw::push_operation(&mut words, 18, &values);
    raw::push_object(&mut words, 11, 2, Payload::NONE, 0, b"");
    raw::push_end(&mut words, Status::Result, Some(Value::Object(11)));
    for (site, _) in (0..).zip(Kind::ALL) {
        raw::push_operation(&mut words, site, &[Value::Object(11)]);
        let status = [
            Status::Result,
            Status::Done,
            Status::Raised,
            Status::Exhausted,
        ][site as usize % 4];
        raw::push_end(&mut words, status, Some(Value::Int(site.into())));
    }
    words.push(raw::DEATH | 11 << 8);
    let mut words = writer.send(words).unwrap();

    // What began first ends, one operation stays open, one is lost.
    words.push(raw::THREAD);
    words.push(raw::TIME | 1 << 48);
    raw::push_end(&mut words, Status::Result, Some(Value::Object(3)));
    words.push(raw::TASK);
    raw::push_operation(&mut words, 8, &[Value::Int(1), Value::Int(2)]);
    raw::push_end(&mut words, Status::Lost, None);
    raw::push_operation(&mut words, 0, &[Value::Object(3)]);
    let (operation, text) = (44, "a note");
    raw::push_row(&mut words, &Row::Note { operation, text });
    writer.send(words).unwrap();
    writer.finish(true).unwrap();
}

/// Everything that a log says, as text.
fn told(log: &Log) -> String {
    let mut out = String::new();
    let tables = log.tables();
    writeln!(out, "version {}", objspace_log::VERSION).unwrap();
    writeln!(out, "meta {:?}", tables.meta).unwrap();
    writeln!(out, "strings {:?}", tables.strings).unwrap();
    for code in &tables.codes {
        writeln!(out, "{code:?}").unwrap();
    }
    for site in &tables.sites {
        writeln!(out, "{site:?}").unwrap();
    }
    for thread in &tables.threads {
        writeln!(out, "{thread:?}").unwrap();
    }
    for task in &tables.tasks {
        writeln!(out, "{task:?}").unwrap();
    }
    for note in &tables.notes {
        writeln!(out, "{note:?}").unwrap();
    }
    for (index, block) in log.blocks().enumerate() {
        let (first, count) = (block.first_operation, block.operations);
        let (time, serials) = (block.time, block.objects);
        writeln!(
            out,
            "block {first}+{count}, time {time:?}, objects {serials:?}"
        )
        .unwrap();
        writeln!(out, "  summary {:?}", log.summary(index).unwrap()).unwrap();
        let parsed = log.block(index).unwrap();
        writeln!(out, "  open {:?}", parsed.open).unwrap();
        for object in log.objects_of(index).unwrap().iter() {
            writeln!(out, "  {object:?}").unwrap();
        }
        writeln!(out, "  deaths {:?}", parsed.deaths).unwrap();
    }
    for operation in log.find(&Query::default(), false, usize::MAX).unwrap() {
        writeln!(out, "{operation:?}").unwrap();
    }
    out
}

#[test]
fn the_kept_log_is_read_as_ever() {
    let (log, text) = (kept("log.dump"), kept("log.txt"));
    let found = told(&Log::open(&log).unwrap());
    let wanted = fs::read_to_string(&text).unwrap();
    for (found, wanted) in found.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn the_same_content_is_written_as_ever() {
    let path = std::env::temp_dir().join(format!("objspace-golden-{}", std::process::id()));
    write(&path);
    let (written, told) = (fs::read(&path).unwrap(), told(&Log::open(&path).unwrap()));
    fs::remove_file(&path).unwrap();
    assert_eq!(told, fs::read_to_string(kept("log.txt")).unwrap());
    // A new release of the compressor alone may change this: then, too, the log is made anew.
    assert!(
        written == fs::read(kept("log.dump")).unwrap(),
        "the bytes of a log have changed: see the head of this file"
    );
}
