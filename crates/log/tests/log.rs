//! Logs against a model: what was recorded is what is read, whole, cut off or mutated.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use objspace_log::query::Query;
use objspace_log::raw::{self, SiteRow};
use objspace_log::{Error, Kind, Log, Options, Payload, Retention, Row, Status, Value, Writer};
use proptest::prelude::*;

/// A file that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(
            std::env::temp_dir().join(format!("objspace-log-test-{}-{number}", std::process::id())),
        )
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SITES: u32 = 20;
const OBJECTS: u64 = 40;

#[derive(Clone, Debug)]
enum Step {
    Operation(u32, Vec<Value>),
    End(Status, Value),
    Death(u64),
    Thread(u32),
    Task(u64),
    Time(u64),
    /// The buffer is handed over.
    Cut,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (1..=OBJECTS).prop_map(Value::Object),
        1 => Just(Value::None),
        1 => Just(Value::True),
        1 => Just(Value::Absent),
        2 => raw::INTS.prop_map(Value::Int),
        1 => any::<f64>().prop_map(Value::Float),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SITES, prop::collection::vec(value(), 0..4)).prop_map(|(s, v)| Step::Operation(s, v)),
        1 => (0..SITES, prop::collection::vec(value(), 14..40)).prop_map(|(s, v)| Step::Operation(s, v)),
        6 => (0..5_u8, value()).prop_map(|(s, v)| Step::End(status(s), v)),
        1 => (1..=OBJECTS).prop_map(Step::Death),
        1 => (0..3_u32).prop_map(Step::Thread),
        1 => (0..=OBJECTS).prop_map(Step::Task),
        1 => (0..1_000_000_u64).prop_map(Step::Time),
        1 => Just(Step::Cut),
    ]
}

fn status(number: u8) -> Status {
    [
        Status::Result,
        Status::Done,
        Status::Raised,
        Status::Exhausted,
        Status::Lost,
    ][usize::from(number)]
}

/// What the log must say of one operation.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    site: u32,
    thread: u32,
    task: u64,
    time: u64,
    stack: Vec<u64>,
    operands: Vec<Value>,
    outcome: Option<(Status, Option<Value>)>,
}

#[derive(Default)]
struct Model {
    operations: Vec<Expected>,
    deaths: Vec<(u64, u64)>,
    open: [Vec<u64>; 3],
    tasks: [u64; 3],
    thread: usize,
    time: u64,
    words: Vec<u64>,
}

impl Model {
    fn define(&mut self) {
        raw::push_row(&mut self.words, &Row::String("app.py"));
        for index in 0..SITES {
            let name = format!("name{index}");
            raw::push_row(&mut self.words, &Row::String(&name));
        }
        let code = Row::Code {
            file: 0,
            name: 1,
            module: 2,
            line: 1,
        };
        raw::push_row(&mut self.words, &code);
        for index in 0..SITES {
            let kind = if index % 2 == 0 {
                Kind::GetAttr
            } else {
                Kind::SetAttr
            };
            raw::push_row(
                &mut self.words,
                &Row::Site(SiteRow {
                    code: 0,
                    kind,
                    name: 1 + index,
                    offset: 2 * index,
                    position: [index + 1, index + 1, 0, 10],
                }),
            );
        }
        for serial in 1..=OBJECTS {
            let text = format!("object {serial}");
            raw::push_object(
                &mut self.words,
                serial,
                1,
                Payload::TEXT,
                0,
                text.as_bytes(),
            );
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Operation(site, operands) => {
                raw::push_operation(&mut self.words, *site, operands);
                self.operations.push(Expected {
                    site: *site,
                    thread: self.thread as u32,
                    task: self.tasks[self.thread],
                    time: self.time,
                    stack: self.open[self.thread].clone(),
                    operands: operands.clone(),
                    outcome: None,
                });
                let number = self.operations.len() as u64;
                self.open[self.thread].push(number);
            }
            Step::End(status, value) => {
                let Some(number) = self.open[self.thread].pop() else {
                    return;
                };
                raw::push_end(&mut self.words, *status, Some(*value));
                self.operations[number as usize - 1].outcome =
                    Some((*status, status.has_value().then_some(*value)));
            }
            Step::Death(serial) => {
                self.words.push(raw::DEATH | serial << 8);
                self.deaths.push((*serial, self.operations.len() as u64));
            }
            Step::Thread(index) => {
                self.words.push(raw::THREAD | u64::from(*index) << 8);
                self.thread = *index as usize;
            }
            Step::Task(serial) => {
                self.words.push(raw::TASK | serial << 8);
                self.tasks[self.thread] = *serial;
            }
            Step::Time(delta) => {
                self.time += delta;
                self.words.push(raw::TIME | self.time << 8);
            }
            Step::Cut => {}
        }
    }
}

fn record(steps: &[Step], options: Options) -> Model {
    let writer = Writer::start(options).unwrap();
    let mut model = Model::default();
    model.define();
    for step in steps {
        model.step(step);
        if matches!(step, Step::Cut) {
            writer.send(std::mem::take(&mut model.words)).unwrap();
        }
    }
    writer.send(std::mem::take(&mut model.words)).unwrap();
    writer.finish(true).unwrap();
    model
}

fn expected(log: &Log, operation: &objspace_log::query::Operation) -> Expected {
    let mut stack: Vec<u64> = log
        .stack(operation.number)
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(stack.pop(), Some(operation.number));
    assert_eq!(stack.last().copied().unwrap_or(0), operation.parent);
    assert_eq!(stack.len() as u32, operation.depth);
    Expected {
        site: operation.site,
        thread: operation.thread,
        task: operation.task,
        time: operation.time,
        stack,
        operands: operation.operands.clone(),
        outcome: operation
            .outcome
            .map(|outcome| (outcome.status, outcome.value)),
    }
}

/// Reads everything there is; panics if anything panics.
fn read_all(log: &Log) -> Result<usize, Error> {
    for serial in 1..=OBJECTS {
        match log.life(serial) {
            Ok(_) | Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    log.counts()?;
    let mut count = 0;
    log.search(&Query::default(), false, |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_recorded_is_read(steps in prop::collection::vec(step(), 0..300)) {
        let scratch = Scratch::new();
        let model = record(&steps, Options::new(&scratch.0));
        let log = Log::open(&scratch.0).unwrap();
        prop_assert_eq!(log.incomplete(), None);
        prop_assert_eq!(log.operations(), model.operations.len() as u64);
        let found = log.find(&Query::default(), false, usize::MAX).unwrap();
        let read: Vec<_> = found.iter().map(|operation| expected(&log, operation)).collect();
        prop_assert_eq!(&read, &model.operations);
        // One by one, and backwards.
        for (index, wanted) in model.operations.iter().enumerate().step_by(7) {
            prop_assert_eq!(&expected(&log, &log.operation(index as u64 + 1).unwrap()), wanted);
        }
        let backwards = log.find(&Query::default(), true, usize::MAX).unwrap();
        prop_assert!(backwards.iter().rev().map(|o| o.number).eq(found.iter().map(|o| o.number)));
    }

    #[test]
    fn questions_answer_as_a_search_through_everything(
        steps in prop::collection::vec(step(), 0..300), object in 1..=OBJECTS, site in 0..SITES,
    ) {
        let scratch = Scratch::new();
        let model = record(&steps, Options::new(&scratch.0));
        let log = Log::open(&scratch.0).unwrap();
        let numbers = |query: &Query| -> Vec<u64> {
            log.find(query, false, usize::MAX).unwrap().iter().map(|o| o.number).collect()
        };
        let filtered = |keep: &dyn Fn(&Expected) -> bool| -> Vec<u64> {
            (1..).zip(&model.operations).filter(|(_, o)| keep(o)).map(|(n, _)| n).collect()
        };
        let value = Value::Object(object);
        let has = |o: &Expected| {
            o.operands.contains(&value) || matches!(o.outcome, Some((_, Some(v))) if v == value)
        };
        // In order, also where a result lies in a later block.
        let life: Vec<u64> = log.life(object).unwrap().operations.iter().map(|o| o.number).collect();
        let wanted = filtered(&has);
        prop_assert_eq!(&life, &wanted);
        let of = Query { object: Some(object), ..Query::default() };
        for limit in [1, 2, 5] {
            let some = |backwards| -> Vec<u64> {
                log.find(&of, backwards, limit).unwrap().iter().map(|o| o.number).collect()
            };
            prop_assert!(some(false).iter().eq(wanted.iter().take(limit)));
            prop_assert!(some(true).iter().eq(wanted.iter().rev().take(limit)));
        }
        let last = model.operations.len() as u64;
        let span = (last / 4, last / 2);
        let of = Query { range: Some(span), thread: Some(0), ..of };
        prop_assert_eq!(
            numbers(&of),
            (1..).zip(&model.operations)
                .filter(|(n, o)| (span.0..=span.1).contains(n) && o.thread == 0 && has(o))
                .map(|(n, _)| n)
                .collect::<Vec<u64>>()
        );
        let last = model.deaths.iter().rfind(|(serial, _)| *serial == object);
        if let Some((_, after)) = last
            && model.deaths.iter().filter(|(serial, _)| *serial == object).count() == 1
            && !model.operations[*after as usize..].iter().any(&has)
        {
            prop_assert_eq!(log.life(object).unwrap().death.map(|(after, _)| after), Some(*after));
        }
        let name = Query { name: Some(format!("name{site}")), ..Query::default() };
        prop_assert_eq!(numbers(&name), filtered(&|o| o.site == site));
        let kind = Query { kinds: vec![Kind::SetAttr], thread: Some(1), ..Query::default() };
        prop_assert_eq!(numbers(&kind), filtered(&|o| o.site % 2 == 1 && o.thread == 1));
        let line = Query { lines: Some((3, 5)), file: Some("app.py".into()), ..Query::default() };
        prop_assert_eq!(numbers(&line), filtered(&|o| (2..=4).contains(&o.site)));
        let raised = Query { status: Some(Status::Raised), ..Query::default() };
        prop_assert_eq!(
            numbers(&raised),
            filtered(&|o| matches!(o.outcome, Some((Status::Raised, _))))
        );
        let counts: Vec<u64> = (0..SITES)
            .map(|s| model.operations.iter().filter(|o| o.site == s).count() as u64)
            .collect();
        prop_assert_eq!(log.counts().unwrap(), counts);
    }

    #[test]
    fn a_log_that_is_cut_off_is_read_up_to_its_last_whole_block(
        steps in prop::collection::vec(step(), 0..200), cut in 0.0..1.0_f64,
    ) {
        let scratch = Scratch::new();
        let model = record(&steps, Options::new(&scratch.0));
        let bytes = fs::read(&scratch.0).unwrap();
        let length = (bytes.len() as f64 * cut) as usize;
        let whole = Log::open(&scratch.0).unwrap();
        let mut end = 16;
        let mut operations = 0;
        for block in whole.blocks() {
            if end + block.bytes > length as u64 {
                break;
            }
            end += block.bytes;
            operations += u64::from(block.operations);
        }
        fs::write(&scratch.0, &bytes[..length]).unwrap();
        if length < 16 {
            prop_assert!(matches!(Log::open(&scratch.0), Err(Error::NotALog)));
            return Ok(());
        }
        let log = Log::open(&scratch.0).unwrap();
        prop_assert_eq!(log.operations(), operations);
        prop_assert_eq!(log.incomplete(), (length as u64 > end).then(|| length as u64 - end));
        let found = log.find(&Query::default(), false, usize::MAX).unwrap();
        prop_assert_eq!(found.len() as u64, operations);
        for (read, wanted) in found.iter().zip(&model.operations) {
            prop_assert_eq!(&read.operands, &wanted.operands);
        }
    }

    #[test]
    fn mutated_bytes_never_panic_and_never_pass_unnoticed(
        steps in prop::collection::vec(step(), 1..120),
        at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let scratch = Scratch::new();
        let model = record(&steps, Options::new(&scratch.0));
        let mut bytes = fs::read(&scratch.0).unwrap();
        let at = at.index(bytes.len());
        let changed = bytes[at] != to;
        bytes[at] = to;
        fs::write(&scratch.0, &bytes).unwrap();
        match Log::open(&scratch.0).and_then(|log| Ok((read_all(&log)?, log.incomplete()))) {
            // The reserved bytes of the preamble are not read.
            Ok((count, None)) => prop_assert!(
                (!changed || (12..16).contains(&at)) && count == model.operations.len()
            ),
            Ok((_, Some(_))) | Err(_) => prop_assert!(changed),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let scratch = Scratch::new();
        let mut bytes = objspace_log::MAGIC.to_vec();
        bytes.extend(objspace_log::VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(tail);
        fs::write(&scratch.0, &bytes).unwrap();
        if let Ok(log) = Log::open(&scratch.0) {
            let _ = read_all(&log);
        }
    }

    #[test]
    fn a_ring_has_the_last_operations_and_what_they_mention(
        steps in prop::collection::vec(step(), 0..300), count in 1..100_u64,
    ) {
        let scratch = Scratch::new();
        let model = record(
            &steps,
            Options { retention: Retention::Last(count), ..Options::new(&scratch.0) },
        );
        let log = Log::open(&scratch.0).unwrap();
        let total = model.operations.len() as u64;
        prop_assert!(log.operations() >= count.min(total));
        let found = log.find(&Query::default(), false, usize::MAX).unwrap();
        prop_assert_eq!(found.len() as u64, log.operations());
        prop_assert_eq!(found.last().map_or(0, |o| o.number), total);
        for operation in &found {
            let wanted = &model.operations[operation.number as usize - 1];
            prop_assert_eq!(&operation.operands, &wanted.operands);
            prop_assert_eq!(operation.site, wanted.site);
            for serial in operation.operands.iter().filter_map(|v| v.serial()) {
                let dead = model.deaths.iter().any(|(gone, _)| *gone == serial);
                prop_assert!(dead || log.object(serial).is_ok());
            }
        }
    }
}

#[test]
fn a_log_ends_at_its_largest_size_and_says_so() {
    let scratch = Scratch::new();
    let steps: Vec<Step> = (0..5000)
        .flat_map(|i| {
            let cut = (i % 50 == 0).then_some(Step::Cut);
            let operands = vec![Value::Object(i % OBJECTS + 1), Value::Int(i as i64 * 977)];
            [
                Step::Operation((i % 20) as u32, operands),
                Step::End(Status::Done, Value::None),
            ]
            .into_iter()
            .chain(cut)
        })
        .collect();
    let options = Options {
        size_max: Some(10_000),
        ..Options::new(&scratch.0)
    };
    record(&steps, options);
    let log = Log::open(&scratch.0).unwrap();
    assert!((100..5000).contains(&log.operations()));
    assert!(fs::metadata(&scratch.0).unwrap().len() <= 10_000);
    let notes = &log.tables().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].operation, log.operations());
    let found = log.find(&Query::default(), false, usize::MAX).unwrap();
    assert!(found.iter().map(|o| o.number).eq(1..=log.operations()));
    assert!(notes[0].text.contains("10000 bytes"));
}

#[test]
fn a_ring_carries_over_more_than_one_block_holds() {
    let scratch = Scratch::new();
    let writer = Writer::start(Options {
        retention: Retention::Last(10),
        ..Options::new(&scratch.0)
    })
    .unwrap();
    let mut model = Model::default();
    model.define();
    let text = "x".repeat(150);
    let count = 60_000;
    for serial in OBJECTS + 1..count {
        raw::push_object(
            &mut model.words,
            serial,
            1,
            Payload::TEXT,
            0,
            text.as_bytes(),
        );
        if serial % 5_000 == 0 {
            raw::push_row(&mut model.words, &Row::String(&"y".repeat(1 << 20)));
            model.step(&Step::Operation(1, vec![Value::Object(serial)]));
            model.step(&Step::End(Status::Done, Value::None));
            writer.send(std::mem::take(&mut model.words)).unwrap();
        }
    }
    for _ in 0..20 {
        model.step(&Step::Operation(1, vec![Value::Object(1)]));
        model.step(&Step::End(Status::Done, Value::None));
        writer.send(std::mem::take(&mut model.words)).unwrap();
    }
    let written = writer.finish(true).unwrap();
    assert_eq!(written.bytes, fs::metadata(&scratch.0).unwrap().len());
    let log = Log::open(&scratch.0).unwrap();
    assert!(log.blocks().filter(|block| block.operations == 0).count() > 2);
    assert_eq!(log.tables().strings.len(), 1 + SITES as usize + 11);
    for serial in (1..=55_000).step_by(911) {
        assert_eq!(log.object(serial).unwrap().serial, serial);
    }
    assert_eq!(log.operations(), 10);
}

#[test]
fn what_is_no_log_is_refused() {
    let scratch = Scratch::new();
    fs::write(&scratch.0, b"#!/usr/bin/env python\nprint()\n").unwrap();
    assert!(matches!(Log::open(&scratch.0), Err(Error::NotALog)));
    let mut bytes = objspace_log::MAGIC.to_vec();
    bytes.extend([99, 0, 0, 0, 0, 0, 0, 0]);
    fs::write(&scratch.0, bytes).unwrap();
    assert!(matches!(Log::open(&scratch.0), Err(Error::Version(99))));
    assert!(matches!(Log::open("/nonexistent/log"), Err(Error::Io(_))));
}
