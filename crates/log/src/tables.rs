//! The things that are few: strings, code objects, sites, threads, notes. They are kept whole in
//! memory by a reader.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::Kind;
use crate::bytes::{Malformed, Reader, put, put_bytes};
use crate::raw::SiteRow;

const STRING: u8 = 1;
const CODE: u8 = 2;
const SITE: u8 = 3;
const THREAD: u8 = 4;
const META: u8 = 5;
const NOTE: u8 = 6;
const TASK: u8 = 7;

/// A row as a recorder makes it. Strings, codes and sites are numbered in the order of their rows,
/// from zero.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// A string.
    String(&'a str),
    /// A code object: the strings of file, qualified name and module, and its first line.
    Code {
        /// The file.
        file: u32,
        /// `co_qualname`.
        name: u32,
        /// `__name__` of the globals that it ran with first.
        module: u32,
        /// `co_firstlineno`.
        line: u32,
    },
    /// A place in the source where an operation is performed.
    Site(SiteRow),
    /// A thread.
    Thread {
        /// Its index in this log.
        index: u32,
        /// What `threading.get_ident()` says in it.
        ident: u64,
        /// Its name.
        name: &'a str,
    },
    /// A task of asyncio.
    Task {
        /// Its serial.
        serial: u64,
        /// Its name.
        name: &'a str,
    },
    /// Something about the whole recording.
    Meta {
        /// What.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// Something to tell the reader: a loss, a limit, a wait.
    Note {
        /// After which operation.
        operation: u64,
        /// What happened.
        text: &'a str,
    },
}

impl Row<'_> {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Row::String(text) => {
                out.push(STRING);
                put_bytes(&mut out, text.as_bytes());
            }
            Row::Code {
                file,
                name,
                module,
                line,
            } => {
                out.push(CODE);
                for number in [file, name, module, line] {
                    put(&mut out, number.into());
                }
            }
            Row::Site(site) => {
                out.extend([SITE, site.kind as u8]);
                for number in [site.code, site.name, site.offset] {
                    put(&mut out, number.into());
                }
                for number in site.position {
                    put(&mut out, number.into());
                }
            }
            Row::Thread { index, ident, name } => {
                out.push(THREAD);
                put(&mut out, index.into());
                put(&mut out, ident);
                put_bytes(&mut out, name.as_bytes());
            }
            Row::Task { serial, name } => {
                out.push(TASK);
                put(&mut out, serial);
                put_bytes(&mut out, name.as_bytes());
            }
            Row::Meta { key, value } => {
                out.push(META);
                put_bytes(&mut out, key.as_bytes());
                put_bytes(&mut out, value.as_bytes());
            }
            Row::Note { operation, text } => {
                out.push(NOTE);
                put(&mut out, operation);
                put_bytes(&mut out, text.as_bytes());
            }
        }
        out
    }
}

/// A code object.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The index of the string with its file.
    pub file: u32,
    /// The index of the string with its qualified name.
    pub name: u32,
    /// The index of the string with its module.
    pub module: u32,
    /// Its first line.
    pub line: u32,
}

/// A place in the source where an operation is performed.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The index of its code.
    pub code: u32,
    /// What it does.
    pub kind: Kind,
    /// The index of the string that says with what: an attribute, an operator, a variable, …
    pub name: u32,
    /// The byte offset of the instruction.
    pub offset: u32,
    /// The line, from one; zero if it has none.
    pub line: u32,
    /// The last line.
    pub end_line: u32,
    /// The column in bytes, from zero.
    pub column: u32,
    /// The column behind the last one.
    pub end_column: u32,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct ThreadInfo {
    /// Its index in the log.
    pub index: u32,
    /// What `threading.get_ident()` says in it.
    pub ident: u64,
    /// Its name.
    pub name: String,
}

/// A task of asyncio.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its serial.
    pub serial: u64,
    /// Its name.
    pub name: String,
}

/// What the recorder or the writer had to say.
#[derive(Clone, Debug)]
pub struct Note {
    /// After which operation.
    pub operation: u64,
    /// What happened.
    pub text: String,
}

/// All tables of a log.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The strings.
    pub strings: Vec<String>,
    /// The code objects.
    pub codes: Vec<Code>,
    /// The sites.
    pub sites: Vec<Site>,
    /// The threads.
    pub threads: Vec<ThreadInfo>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What is known of the whole recording.
    pub meta: Vec<(String, String)>,
    /// What there was to say.
    pub notes: Vec<Note>,
    /// Where each thread is in `threads`, by its index.
    places: HashMap<u32, usize>,
}

impl Tables {
    /// A string; empty if there is none of this index.
    pub fn string(&self, index: u32) -> &str {
        self.strings.get(index as usize).map_or("", String::as_str)
    }

    /// A site.
    pub fn site(&self, index: u32) -> Option<&Site> {
        self.sites.get(index as usize)
    }

    /// The code of a site.
    pub fn code(&self, site: &Site) -> Option<&Code> {
        self.codes.get(site.code as usize)
    }

    /// Adds the rows of a block.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            match reader.byte()? {
                STRING => self.strings.push(reader.string()?),
                CODE => self.codes.push(Code {
                    file: reader.small()?,
                    name: reader.small()?,
                    module: reader.small()?,
                    line: reader.small()?,
                }),
                SITE => self.sites.push(Site {
                    kind: Kind::from_number(reader.byte()?).ok_or(Malformed)?,
                    code: reader.small()?,
                    name: reader.small()?,
                    offset: reader.small()?,
                    line: reader.small()?,
                    end_line: reader.small()?,
                    column: reader.small()?,
                    end_column: reader.small()?,
                }),
                THREAD => {
                    let thread = ThreadInfo {
                        index: reader.small()?,
                        ident: reader.number()?,
                        name: reader.string()?,
                    };
                    // A thread that had no name at first is told again.
                    match self.places.entry(thread.index) {
                        Entry::Occupied(place) => self.threads[*place.get()] = thread,
                        Entry::Vacant(place) => {
                            place.insert(self.threads.len());
                            self.threads.push(thread);
                        }
                    }
                }
                TASK => self.tasks.push(Task {
                    serial: reader.number()?,
                    name: reader.string()?,
                }),
                META => self.meta.push((reader.string()?, reader.string()?)),
                NOTE => self.notes.push(Note {
                    operation: reader.number()?,
                    text: reader.string()?,
                }),
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }
}
