//! Questions to a log: which operations, what became of them, what is the life of an object.
//!
//! Every question first asks the summaries which blocks to read.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{Block, Error, Kind, Log, Object, OperationRow, Payload, Site, Status, Value};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How.
    pub status: Status,
    /// With what.
    pub value: Option<Value>,
    /// When, in nanoseconds since the recording began.
    pub time: u64,
}

/// An operation with everything that is known of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its number in the log, from one.
    pub number: u64,
    /// The index of its site in the tables.
    pub site: u32,
    /// The index of its thread.
    pub thread: u32,
    /// The serial of its asyncio task, or zero.
    pub task: u64,
    /// When it began, in nanoseconds since the recording began.
    pub time: u64,
    /// The operation that it is part of, or zero.
    pub parent: u64,
    /// How many operations it is part of.
    pub depth: u32,
    /// Its operands.
    pub operands: Vec<Value>,
    /// How it ended. `None`: the log ends before it did.
    pub outcome: Option<Outcome>,
}

/// Which operations to look for. An empty query finds all; what is given must all hold.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// One of these kinds; empty for any.
    pub kinds: Vec<Kind>,
    /// This attribute, operator or variable.
    pub name: Option<String>,
    /// In a file whose path ends so.
    pub file: Option<String>,
    /// On these lines: first and last.
    pub lines: Option<(u32, u32)>,
    /// In a function of this name, or whose qualified name is or ends so.
    pub function: Option<String>,
    /// In this module, or below it.
    pub module: Option<String>,
    /// With this object among the operands and the result.
    pub object: Option<u64>,
    /// With an object of a type of this name, or qualified name, among the operands.
    pub operand_type: Option<String>,
    /// With an object of a type of this name as the first operand.
    pub receiver_type: Option<String>,
    /// In this thread.
    pub thread: Option<u32>,
    /// In this task.
    pub task: Option<u64>,
    /// That ended so.
    pub status: Option<Status>,
    /// Between these operations, both included.
    pub range: Option<(u64, u64)>,
}

/// The life of an object.
#[derive(Clone, Debug)]
pub struct Life {
    /// What it is.
    pub object: Object,
    /// The operation in which it was first seen: of which it is the result, if it was born there.
    pub first: Option<u64>,
    /// Every operation with it among the operands and the result, in order.
    pub operations: Vec<Operation>,
    /// When it was gone: the last operation that had begun then, and the thread.
    pub death: Option<(u64, u32)>,
}

impl Log {
    /// The site of an operation.
    ///
    /// # Errors
    /// The log does not define it.
    pub fn site(&self, index: u32) -> Result<&Site, Error> {
        self.tables().site(index).ok_or_else(|| Error::Missing {
            what: "site",
            number: index.into(),
        })
    }

    /// The name of a class, as `module.qualname`; "type 17" if it is not known.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn class_name(&self, serial: u64) -> Result<String, Error> {
        match self.object(serial) {
            Ok(Object {
                payload: Payload::Class(name),
                ..
            }) => Ok(name),
            Ok(_) | Err(Error::Missing { .. }) => Ok(format!("type {serial}")),
            Err(error) => Err(error),
        }
    }

    /// One operation.
    ///
    /// # Errors
    /// The log does not have it, cannot be read, or is damaged.
    pub fn operation(&self, number: u64) -> Result<Operation, Error> {
        let missing = || Error::Missing {
            what: "operation",
            number,
        };
        let index = self.block_of(number).ok_or_else(missing)?;
        let block = self.block(index)?;
        let row = block.operation(number).ok_or_else(missing)?;
        self.complete(index, &block, row)
    }

    /// The operations that one is part of, outermost first, and itself: numbers and sites.
    ///
    /// # Errors
    /// The log does not have it, cannot be read, or is damaged.
    pub fn stack(&self, number: u64) -> Result<Vec<(u64, u32)>, Error> {
        let missing = || Error::Missing {
            what: "operation",
            number,
        };
        let index = self.block_of(number).ok_or_else(missing)?;
        let block = self.block(index)?;
        let mut row = block.operation(number).ok_or_else(missing)?;
        let mut stack = vec![(number, row.site)];
        while row.parent != 0 {
            match block.operation(row.parent) {
                Some(parent) => {
                    stack.push((parent.number, parent.site));
                    row = parent;
                }
                None => {
                    let open = block
                        .open
                        .iter()
                        .find(|(thread, _)| *thread == row.thread)
                        .map_or(&[][..], |(_, open)| open);
                    stack.extend(
                        open.iter()
                            .rev()
                            .skip_while(|(open, _)| *open != row.parent),
                    );
                    break;
                }
            }
        }
        stack.reverse();
        Ok(stack)
    }

    /// A row with the outcome that may lie in a later block.
    fn complete(
        &self,
        index: usize,
        block: &Block,
        row: &OperationRow,
    ) -> Result<Operation, Error> {
        let outcome = match row.outcome {
            Some((status, value, time)) => Some(Outcome {
                status,
                value,
                time,
            }),
            None => self.late_outcome(index, row)?,
        };
        Ok(Operation {
            number: row.number,
            site: row.site,
            thread: row.thread,
            task: row.task,
            time: row.time,
            parent: row.parent,
            depth: row.depth,
            operands: block.operands(row).to_vec(),
            outcome,
        })
    }

    /// How an operation ended that did not end in the block in which it began.
    fn late_outcome(&self, index: usize, row: &OperationRow) -> Result<Option<Outcome>, Error> {
        let Some(end) = self.spans()?.end(row.number).filter(|end| *end > index) else {
            return Ok(None);
        };
        let block = self.block(end)?;
        Ok(block.late_end(row.number).map(|late| Outcome {
            status: late.status,
            value: late.value,
            time: late.time,
        }))
    }

    /// Calls `each` for every operation that a query finds, in order; or in the opposite order if
    /// `backwards`. Ends when it breaks.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn search(
        &self,
        query: &Query,
        backwards: bool,
        mut each: impl FnMut(Operation) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut matcher = Matcher::new(self, query);
        let blocks = self.blocks().len();
        let order: &mut dyn Iterator<Item = usize> = if backwards {
            &mut (0..blocks).rev()
        } else {
            &mut (0..blocks)
        };
        for index in order {
            let Some(block) = matcher.block(index)? else {
                continue;
            };
            let mut found = Vec::new();
            for row in &block.operations {
                if !matcher.row_matches(row.number, row.site, row.thread, row.task) {
                    continue;
                }
                let operands = block.operands(row);
                let wanted = query.object.map(Value::Object);
                let mentions = wanted.is_none_or(|object| operands.contains(&object));
                // With a result of a later block only where that one mentions the object at all.
                let may_result = match row.outcome {
                    Some((_, value, _)) => value == wanted,
                    None => !mentions && matcher.end_mentions(row.number)?,
                };
                if !(mentions || may_result) || !matcher.types_match(operands)? {
                    continue;
                }
                let operation = self.complete(index, &block, row)?;
                let value = operation.outcome.and_then(|outcome| outcome.value);
                if (mentions || value == wanted)
                    && matcher.status_matches(operation.outcome.as_ref())
                {
                    found.push(operation);
                }
            }
            if backwards {
                found.reverse();
            }
            for operation in found {
                if each(operation).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// All operations that a query finds, at most `limit`.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn find(
        &self,
        query: &Query,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Operation>, Error> {
        let mut found = Vec::new();
        if limit > 0 {
            self.search(query, backwards, |operation| {
                found.push(operation);
                if found.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        Ok(found)
    }

    /// The life of an object.
    ///
    /// # Errors
    /// The log does not have it, cannot be read, or is damaged.
    pub fn life(&self, serial: u64) -> Result<Life, Error> {
        let object = self.object(serial)?;
        let query = Query {
            object: Some(serial),
            ..Query::default()
        };
        let operations = self.find(&query, false, usize::MAX)?;
        let first = operations.iter().map(|operation| operation.number).min();
        Ok(Life {
            object,
            first,
            operations,
            death: self.death(serial)?,
        })
    }

    /// When an object was gone: the last operation that had begun then, and the thread. `None`: it
    /// was alive when the log ended.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn death(&self, serial: u64) -> Result<Option<(u64, u32)>, Error> {
        for index in (0..self.blocks().len()).rev() {
            let (serials, _) = self.summary(index)?;
            if serials.binary_search(&serial).is_ok() {
                let block = self.block(index)?;
                let death = block.deaths.iter().find(|death| death.serial == serial);
                return Ok(death.map(|death| (death.after, death.thread)));
            }
        }
        Ok(None)
    }

    /// The operations that are directly part of one (of none, if it is zero), in order, those after
    /// the operation `after`, at most `limit`. Reads no further than the end of `parent`.
    ///
    /// # Errors
    /// The log does not have the parent, cannot be read, or is damaged.
    pub fn children(&self, parent: u64, after: u64, limit: usize) -> Result<Vec<Operation>, Error> {
        let (first, _) = self.range();
        let whole = match parent {
            0 => None,
            _ => Some(self.operation(parent)?),
        };
        let start = after.max(parent).saturating_add(1).max(first);
        let mut found = Vec::new();
        let Some(from) = self.block_of(start) else {
            return Ok(found);
        };
        for index in from..self.blocks().len() {
            let block = self.block(index)?;
            for row in block.operations.iter().filter(|row| row.number >= start) {
                let is_child = match &whole {
                    // What a ring has dropped is parent of nothing.
                    None => row.parent < first,
                    Some(whole) if whole.thread != row.thread => false,
                    Some(whole) if row.depth <= whole.depth => return Ok(found),
                    Some(_) => row.parent == parent,
                };
                if found.len() >= limit {
                    return Ok(found);
                }
                if is_child {
                    found.push(self.complete(index, &block, row)?);
                }
            }
        }
        Ok(found)
    }

    /// How many operations each site has, by block summaries and rows: the basis of every ranking.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn counts(&self) -> Result<Vec<u64>, Error> {
        let mut counts = vec![0; self.tables().sites.len()];
        for index in 0..self.blocks().len() {
            for row in &self.block(index)?.operations {
                if let Some(count) = counts.get_mut(row.site as usize) {
                    *count += 1;
                }
            }
        }
        Ok(counts)
    }

    /// How many operations had an object of each type as their first operand, by the type's name.
    ///
    /// # Errors
    /// The log cannot be read, or is damaged.
    pub fn receiver_counts(&self) -> Result<HashMap<String, u64>, Error> {
        let mut by_class: HashMap<u64, u64> = HashMap::new();
        let mut scalars: HashMap<&'static str, u64> = HashMap::new();
        for index in 0..self.blocks().len() {
            let block = self.block(index)?;
            for row in &block.operations {
                match block.operands(row).first() {
                    Some(&Value::Object(serial)) => match self.object(serial) {
                        Ok(object) => *by_class.entry(object.class).or_default() += 1,
                        Err(Error::Missing { .. }) => {}
                        Err(error) => return Err(error),
                    },
                    Some(scalar) => {
                        let name = match scalar {
                            Value::Int(_) => "builtins.int",
                            Value::Float(_) => "builtins.float",
                            Value::True | Value::False => "builtins.bool",
                            Value::None => "builtins.NoneType",
                            _ => continue,
                        };
                        *scalars.entry(name).or_default() += 1;
                    }
                    None => {}
                }
            }
        }
        let mut counts: HashMap<String, u64> = HashMap::new();
        for (class, count) in by_class {
            *counts.entry(self.class_name(class)?).or_default() += count;
        }
        for (name, count) in scalars {
            *counts.entry(name.to_owned()).or_default() += count;
        }
        Ok(counts)
    }
}

/// A query made ready: names are looked up once.
struct Matcher<'a> {
    log: &'a Log,
    query: &'a Query,
    /// `None`: any.
    sites: Option<HashSet<u32>>,
    /// Whether the type of an object is one of the name asked for, by its serial.
    types: HashMap<(u64, bool), bool>,
    /// Which blocks mention the object asked for, as far as somebody asked.
    mentions: HashMap<usize, bool>,
}

impl<'a> Matcher<'a> {
    fn new(log: &'a Log, query: &'a Query) -> Self {
        let by_site = !query.kinds.is_empty()
            || query.name.is_some()
            || query.file.is_some()
            || query.lines.is_some()
            || query.function.is_some()
            || query.module.is_some();
        let sites = by_site.then(|| {
            let sites = log.tables().sites.iter().enumerate();
            sites
                .filter(|(_, site)| site_matches(log, query, site))
                .map(|(index, _)| index as u32)
                .collect()
        });
        Self {
            log,
            query,
            sites,
            types: HashMap::new(),
            mentions: HashMap::new(),
        }
    }

    /// A block, unless nothing in it can match.
    fn block(&mut self, index: usize) -> Result<Option<Arc<Block>>, Error> {
        let info = self.log.blocks().nth(index);
        if let (Some(info), Some((first, last))) = (info, self.query.range)
            && (info.first_operation > last
                || info.first_operation + u64::from(info.operations) <= first)
        {
            return Ok(None);
        }
        if let Some(wanted) = &self.sites {
            let (_, sites) = self.log.summary(index)?;
            if !sites.iter().any(|site| wanted.contains(site)) {
                return Ok(None);
            }
        }
        if self.query.object.is_some() && !self.mentions(index)? {
            // Still, what begins here may end with the object later.
            let info = info.unwrap_or_default();
            let mut ends = self
                .log
                .spans()?
                .ends(info.first_operation, info.operations.into());
            loop {
                match ends.next() {
                    Some(end) if self.mentions(end)? => break,
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        }
        self.log.block(index).map(Some)
    }

    /// Whether a block mentions the object that is looked for.
    fn mentions(&mut self, index: usize) -> Result<bool, Error> {
        if let Some(&known) = self.mentions.get(&index) {
            return Ok(known);
        }
        let (serials, _) = self.log.summary(index)?;
        let object = self.query.object.unwrap_or(0);
        let mentions = serials.binary_search(&object).is_ok();
        self.mentions.insert(index, mentions);
        Ok(mentions)
    }

    /// The same of the block in which an operation ends that did not end in its own.
    fn end_mentions(&mut self, number: u64) -> Result<bool, Error> {
        match self.log.spans()?.end(number) {
            Some(end) => self.mentions(end),
            None => Ok(false),
        }
    }

    fn row_matches(&self, number: u64, site: u32, thread: u32, task: u64) -> bool {
        self.sites
            .as_ref()
            .is_none_or(|sites| sites.contains(&site))
            && self.query.thread.is_none_or(|wanted| wanted == thread)
            && self.query.task.is_none_or(|wanted| wanted == task)
            && self
                .query
                .range
                .is_none_or(|(first, last)| (first..=last).contains(&number))
    }

    fn status_matches(&self, outcome: Option<&Outcome>) -> bool {
        self.query
            .status
            .is_none_or(|wanted| outcome.is_some_and(|outcome| outcome.status == wanted))
    }

    fn types_match(&mut self, operands: &[Value]) -> Result<bool, Error> {
        if let Some(name) = &self.query.receiver_type {
            let first = operands.first().copied().unwrap_or(Value::Absent);
            if !self.is_of_type(first, name, true)? {
                return Ok(false);
            }
        }
        if let Some(name) = &self.query.operand_type {
            for &operand in operands {
                if self.is_of_type(operand, name, false)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn is_of_type(&mut self, value: Value, name: &str, receiver: bool) -> Result<bool, Error> {
        let serial = match value {
            Value::Object(serial) => serial,
            Value::Int(_) => return Ok(name == "int"),
            Value::Float(_) => return Ok(name == "float"),
            Value::True | Value::False => return Ok(name == "bool"),
            Value::None => return Ok(name == "NoneType"),
            _ => return Ok(false),
        };
        let class = match self.log.object(serial) {
            Ok(object) => object.class,
            Err(Error::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some(&known) = self.types.get(&(class, receiver)) {
            return Ok(known);
        }
        let is = named(&self.log.class_name(class)?, name);
        self.types.insert((class, receiver), is);
        Ok(is)
    }
}

fn site_matches(log: &Log, query: &Query, site: &Site) -> bool {
    let tables = log.tables();
    if !query.kinds.is_empty() && !query.kinds.contains(&site.kind) {
        return false;
    }
    if let Some(name) = &query.name
        && tables.string(site.name) != name
    {
        return false;
    }
    if let Some((first, last)) = query.lines
        && !(first..=last).contains(&site.line)
    {
        return false;
    }
    let Some(code) = tables.code(site) else {
        return false;
    };
    if let Some(file) = &query.file {
        let path = tables.string(code.file);
        let is = path == file
            || path
                .strip_suffix(file.as_str())
                .is_some_and(|rest| rest.ends_with('/'));
        if !is {
            return false;
        }
    }
    if let Some(function) = &query.function
        && !named(tables.string(code.name), function)
    {
        return false;
    }
    if let Some(module) = &query.module {
        let path = tables.string(code.module);
        let is = path
            .strip_prefix(module.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if !is {
            return false;
        }
    }
    true
}

/// Whether a dotted path is a name or ends with it.
pub(crate) fn named(path: &str, name: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
