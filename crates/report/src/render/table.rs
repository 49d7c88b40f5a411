// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table for databases, in Apache Parquet: a row for each run, context, file and span of lines.
//! `docs/queries.md` describes its columns.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::style::shown;
use crate::contexts::spans::{spans, tests_of, Span, State, Who};
use crate::contexts::{Contexts, Row};
use crate::coverage::View;

/// Grows when something changes that a reader could have relied on.
const VERSION: u32 = 1;

const SCHEMA: &str = "
message coverage {
  REQUIRED BYTE_ARRAY run (STRING);
  REQUIRED INT64 started (TIMESTAMP(MICROS,true));
  REQUIRED BYTE_ARRAY scope (STRING);
  OPTIONAL BYTE_ARRAY kind (STRING);
  OPTIONAL BYTE_ARRAY context (STRING);
  REQUIRED BYTE_ARRAY file (STRING);
  REQUIRED INT32 first_line;
  REQUIRED INT32 last_line;
  REQUIRED BYTE_ARRAY state (STRING);
  REQUIRED BOOLEAN in_test;
  REQUIRED BOOLEAN complete;
}";

/// A group is sorted and written as one. Readers take groups in parallel.
const MOST: Most = Most {
    rows: 1 << 18,
    names: 16 << 20,
};

/// Bytes of names that are written once for a group. If there are more, they are written in each row.
const DICTIONARY: usize = 1 << 30;

/// Rows whose values are copied for the writer at a time.
const AT_ONCE: usize = 4096;

/// A table that is being written. It keeps a group of rows in memory.
#[derive(Debug)]
pub struct Table<'t> {
    to: Out<'t>,
    /// Writes to memory: it wants to be sent to other threads, which not every output can be.
    writer: SerializedFileWriter<Vec<u8>>,
    most: Most,
    group: Group,
}

/// What a group has at most.
#[derive(Clone, Copy, Debug)]
struct Most {
    rows: usize,
    /// Bytes of names, between runs.
    names: usize,
}

struct Out<'t>(&'t mut dyn Write);

impl std::fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Out")
    }
}

/// Rows that are not written yet, and their names, by number.
#[derive(Debug, Default)]
struct Group {
    rows: Vec<Entry>,
    runs: Vec<(ByteArray, i64)>,
    files: Vec<(ByteArray, bool)>,
    contexts: Vec<(ByteArray, ByteArray)>,
    /// How long the names are.
    bytes: usize,
}

/// A row. They are sorted by what comes first here, so that equal values are beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    run: u32,
    file: u32,
    scope: Scope,
    first: u32,
    last: u32,
    state: State,
    in_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Run,
    Outside,
    Context(u32),
}

/// The numbers that names have in the group: none until a row has them.
struct Numbers {
    run: Option<u32>,
    file: Option<u32>,
    contexts: Vec<Option<u32>>,
}

impl Numbers {
    fn new(contexts: usize) -> Self {
        Self {
            run: None,
            file: None,
            contexts: vec![None; contexts],
        }
    }
}

/// What the names of a row are.
struct Named<'a> {
    run: &'a ByteArray,
    started: i64,
    file: &'a ByteArray,
    complete: bool,
    rows: &'a [Row],
}

impl<'t> Table<'t> {
    /// Begins a table.
    ///
    /// # Errors
    /// What `to` says.
    pub fn new(to: &'t mut dyn Write) -> io::Result<Self> {
        Self::of_groups(to, MOST)
    }

    /// With so much in a group.
    fn of_groups(to: &'t mut dyn Write, most: Most) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(failed)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("rkcov version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_dictionary_page_size_limit(DICTIONARY)
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "rkcov.version".to_owned(),
                VERSION.to_string(),
            )]));
        for column in ["first_line", "last_line"] {
            properties = properties
                .set_column_dictionary_enabled(ColumnPath::from(column), false)
                .set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        let writer =
            SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties.build()));
        Ok(Self {
            to: Out(to),
            writer: writer.map_err(failed)?,
            most,
            group: Group::default(),
        })
    }

    /// Adds what a view says, as the run of this name; with `by_context`, what each context ran, too.
    ///
    /// # Errors
    /// What the output says.
    pub fn add(&mut self, run: &str, view: &View<'_>, by_context: bool) -> io::Result<()> {
        let coverage = view.coverage;
        let contexts = by_context.then(|| Contexts::named(coverage).ok()).flatten();
        let rows = contexts.as_ref().map_or(&[][..], Contexts::rows);
        let started = coverage.runs.iter().map(|run| run.info.started).min();
        let started = started.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let tests = tests_of(coverage);
        let run = ByteArray::from(run);
        let mut numbers = Numbers::new(rows.len());
        for file in &view.files {
            let Some(source) = coverage.file(file.path) else {
                continue;
            };
            let path = ByteArray::from(&*shown(file.path));
            let named = Named {
                run: &run,
                started: started.map_or(0, |time| time.as_micros() as i64),
                file: &path,
                complete: file.complete,
                rows,
            };
            numbers.file = None;
            let mut add = |span| self.row(span, &named, &mut numbers);
            spans(file, source, &tests, &mut add)?;
            if let Some(contexts) = &contexts {
                contexts.spans(file, source, &tests, &mut add)?;
            }
        }
        // Not earlier: rows of one run have the same names again and again.
        if self.group.bytes >= self.most.names {
            self.write_group()?;
        }
        Ok(())
    }

    fn row(&mut self, span: Span, named: &Named<'_>, numbers: &mut Numbers) -> io::Result<()> {
        if self.group.rows.len() >= self.most.rows {
            self.write_group()?;
            *numbers = Numbers::new(named.rows.len());
        }
        let group = &mut self.group;
        let run = *numbers.run.get_or_insert_with(|| {
            group.bytes += named.run.len();
            group.runs.push((named.run.clone(), named.started));
            group.runs.len() as u32 - 1
        });
        let file = *numbers.file.get_or_insert_with(|| {
            group.bytes += named.file.len();
            group.files.push((named.file.clone(), named.complete));
            group.files.len() as u32 - 1
        });
        let scope = match span.who {
            Who::Everybody => Scope::Run,
            Who::Outside => Scope::Outside,
            Who::Row(row) => Scope::Context(*numbers.contexts[row].get_or_insert_with(|| {
                let (kind, name) = (named.rows[row].kind.to_string(), &*named.rows[row].name);
                group.bytes += kind.len() + name.len();
                group
                    .contexts
                    .push((ByteArray::from(&*kind), ByteArray::from(name)));
                group.contexts.len() as u32 - 1
            })),
        };
        group.rows.push(Entry {
            run,
            file,
            scope,
            first: span.first,
            last: span.last,
            state: span.state,
            in_test: span.in_test,
        });
        Ok(())
    }

    /// Writes the rest, and what readers find the rows by.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_group()?;
        self.writer.finish().map_err(failed)?;
        self.pass_on()
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = mem::take(&mut self.group);
        if group.rows.is_empty() {
            return Ok(());
        }
        group.rows.sort_unstable();
        let mut writer = self.writer.next_row_group().map_err(failed)?;
        group.write(&mut writer).map_err(failed)?;
        writer.close().map_err(failed)?;
        self.pass_on()
    }

    /// Writes what is in memory.
    fn pass_on(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.to.0.write_all(&mem::take(self.writer.inner_mut()))
    }
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

type Columns<'w> = SerializedRowGroupWriter<'w, Vec<u8>>;

impl Group {
    /// Writes the columns, in the order of the schema.
    fn write(&self, to: &mut Columns<'_>) -> Result<(), ParquetError> {
        let context = |row: &Entry| match row.scope {
            Scope::Context(number) => self.contexts.get(number as usize),
            Scope::Run | Scope::Outside => None,
        };
        let [of_run, outside, of_context] = ["run", "outside", "context"].map(ByteArray::from);
        let [covered, uncovered, unknown] =
            ["covered", "uncovered", "unknown"].map(ByteArray::from);
        self.column::<ByteArrayType>(to, |row| self.runs[row.run as usize].0.clone())?;
        self.column::<Int64Type>(to, |row| self.runs[row.run as usize].1)?;
        self.column::<ByteArrayType>(to, |row| match row.scope {
            Scope::Run => of_run.clone(),
            Scope::Outside => outside.clone(),
            Scope::Context(_) => of_context.clone(),
        })?;
        self.optional(to, |row| Some(context(row)?.0.clone()))?;
        self.optional(to, |row| Some(context(row)?.1.clone()))?;
        self.column::<ByteArrayType>(to, |row| self.files[row.file as usize].0.clone())?;
        self.column::<Int32Type>(to, |row| number(row.first))?;
        self.column::<Int32Type>(to, |row| number(row.last))?;
        self.column::<ByteArrayType>(to, |row| match row.state {
            State::Covered => covered.clone(),
            State::Uncovered => uncovered.clone(),
            State::Unknown => unknown.clone(),
        })?;
        self.column::<BoolType>(to, |row| row.in_test)?;
        self.column::<BoolType>(to, |row| self.files[row.file as usize].1)
    }

    fn column<T: DataType>(
        &self,
        to: &mut Columns<'_>,
        value: impl Fn(&Entry) -> T::T,
    ) -> Result<(), ParquetError> {
        let mut column = to.next_column()?.ok_or_else(no_column)?;
        for rows in self.rows.chunks(AT_ONCE) {
            let values: Vec<T::T> = rows.iter().map(&value).collect();
            column.typed::<T>().write_batch(&values[..], None, None)?;
        }
        column.close()
    }

    fn optional(
        &self,
        to: &mut Columns<'_>,
        value: impl Fn(&Entry) -> Option<ByteArray>,
    ) -> Result<(), ParquetError> {
        let mut column = to.next_column()?.ok_or_else(no_column)?;
        for rows in self.rows.chunks(AT_ONCE) {
            let values: Vec<Option<ByteArray>> = rows.iter().map(&value).collect();
            let there: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
            let values: Vec<ByteArray> = values.into_iter().flatten().collect();
            let column = column.typed::<ByteArrayType>();
            column.write_batch(&values[..], Some(&there), None)?;
        }
        column.close()
    }
}

/// The schema has fewer columns than are written.
fn no_column() -> ParquetError {
    ParquetError::General("there is no such column".to_owned())
}

/// No source has more lines.
fn number(line: u32) -> i32 {
    i32::try_from(line).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::sample::{self, hits};
    use crate::coverage::{Coverage, FileView, Seen, Selection};
    use crate::sources::Filter;
    use crate::trace::ContextKind;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Scope, kind, context, file, line, state, whether in a test, whether complete.
    type Line = (
        String,
        Option<String>,
        Option<String>,
        String,
        i32,
        String,
        bool,
        bool,
    );

    fn everything() -> Filter {
        Filter {
            all: true,
            ..Filter::default()
        }
    }

    fn written(coverage: &Coverage, by_context: bool, rows: usize) -> Vec<u8> {
        let view = View::new(coverage, Selection::all(coverage), &everything());
        let mut bytes = Vec::new();
        let mut table = Table::of_groups(&mut bytes, Most { rows, ..MOST }).unwrap();
        table.add("one", &view, by_context).unwrap();
        table.finish().unwrap();
        bytes
    }

    /// Each line of each row. No line may be twice in one scope and context.
    fn read(bytes: Vec<u8>) -> (BTreeSet<Line>, Vec<i64>) {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let groups = reader.metadata().row_groups().iter();
        let groups = groups.map(|group| group.num_rows()).collect();
        let mut lines = BTreeSet::new();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let fields: BTreeMap<&str, &Field> = row
                .get_column_iter()
                .map(|(name, field)| (&**name, field))
                .collect();
            let text = |name: &str| match fields[name] {
                Field::Str(text) => Some(text.clone()),
                Field::Null => None,
                other => panic!("{name}: {other:?}"),
            };
            let flag = |name: &str| match fields[name] {
                Field::Bool(flag) => *flag,
                other => panic!("{name}: {other:?}"),
            };
            let line = |name: &str| match fields[name] {
                Field::Int(line) => *line,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(text("run").as_deref(), Some("one"));
            let began = sample::BEGAN as i64 * 1_000_000;
            assert_eq!(fields["started"], &Field::TimestampMicros(began));
            for number in line("first_line")..=line("last_line") {
                let new = lines.insert((
                    text("scope").unwrap(),
                    text("kind"),
                    text("context"),
                    text("file").unwrap(),
                    number,
                    text("state").unwrap(),
                    flag("in_test"),
                    flag("complete"),
                ));
                assert!(new, "line {number} is in two rows: {row}");
            }
        }
        (lines, groups)
    }

    /// The same from what each selection sees of each line.
    fn expected(coverage: &Coverage, by_context: bool) -> BTreeSet<Line> {
        let all = Selection::all(coverage);
        let view = View::new(coverage, all.clone(), &everything());
        let mut lines = BTreeSet::new();
        let mut add = |selection: Selection, scope: &str, row: Option<&Row>| {
            for file in &view.files {
                for (line, hits) in &coverage.file(file.path).unwrap().lines {
                    let state = match selection.sees(hits) {
                        Seen::Ran => "covered",
                        Seen::Unknown => "unknown",
                        _ if scope == "run" && file.complete => "uncovered",
                        _ => continue,
                    };
                    lines.insert((
                        scope.to_owned(),
                        row.map(|row| row.kind.to_string()),
                        row.map(|row| row.name.clone()),
                        shown(file.path),
                        *line as i32,
                        state.to_owned(),
                        is_in_test(coverage, file, *line),
                        file.complete,
                    ));
                }
            }
        };
        add(all, "run", None);
        if by_context {
            let contexts = Contexts::of(coverage, &everything()).unwrap();
            for row in contexts.rows() {
                add(row.selection(), "context", Some(row));
            }
            let streams = coverage.streams.iter().enumerate();
            let outside = streams.filter(|(_, stream)| stream.info.context.is_none());
            let outside = Selection {
                streams: outside.map(|(index, _)| index).collect(),
                exclusive: false,
            };
            add(outside, "outside", None);
        }
        lines
    }

    fn is_in_test(coverage: &Coverage, file: &FileView<'_>, line: u32) -> bool {
        let tests = coverage.runs[0].contexts.iter();
        let mut tests = tests.filter(|context| context.kind == ContextKind::Test);
        let functions = &coverage.file(file.path).unwrap().functions;
        tests.any(|test| {
            let name = format!("shop::{}", String::from_utf8_lossy(&test.name));
            functions.iter().any(|function| {
                *function.name == *name && (function.lines.0..=function.lines.1).contains(&line)
            })
        })
    }

    const CONTEXTS: [sample::Work<'_>; 5] = [
        (ContextKind::Test, "adds", Some(1)),
        (ContextKind::Test, "adds", Some(2)),
        (ContextKind::Request, "adds", None),
        (ContextKind::Input, "an input of 'any' \"bytes\"\n", None),
        (ContextKind::Other(77), "", None),
    ];

    const STREAMS: [Option<usize>; 8] = [
        Some(0),
        Some(1),
        None,
        Some(2),
        Some(3),
        None,
        Some(4),
        Some(0),
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_are_what_each_context_ran(
            files in proptest::collection::vec(
                proptest::collection::btree_map(
                    1..40_u32,
                    // Stream 8 stands for somebody of whom no more is known.
                    (
                        proptest::collection::vec(0..9_usize, 0..4),
                        proptest::collection::vec(0..9_usize, 0..2),
                    ),
                    0..30,
                ),
                1..4,
            ),
            complete in any::<bool>(),
            by_context in any::<bool>(),
            most in 1..50_usize,
        ) {
            let mut coverage = sample::coverage(&CONTEXTS, &STREAMS);
            for (number, lines) in files.iter().enumerate() {
                let path = format!("/p/src/{number}.rs");
                let lines = lines.iter();
                let lines = lines.map(|(line, (ran, may))| (*line, hits(ran, may)));
                sample::file(&mut coverage, &path, lines, &[("shop::adds", 10, 14)]);
                coverage.files.get_mut(std::path::Path::new(&path)).unwrap().complete = complete;
            }
            let (lines, groups) = read(written(&coverage, by_context, most));
            prop_assert_eq!(&lines, &expected(&coverage, by_context));
            let (last, full) = groups.split_last().unwrap_or((&0, &[]));
            prop_assert!(full.iter().all(|rows| *rows == most as i64), "{groups:?}");
            prop_assert!(*last <= most as i64);
        }
    }

    #[test]
    fn long_names_are_written_once_for_each_run() {
        let most = Most {
            names: 10_000,
            ..MOST
        };
        let long = "n".repeat(most.names / 3);
        let names = ["a", "b", "c", "d"].map(|end| format!("{long}{end}"));
        let contexts = names
            .each_ref()
            .map(|name| (ContextKind::User, &**name, None));
        let streams = [Some(0), Some(1), Some(2), Some(3)];
        let mut coverage = sample::coverage(&contexts, &streams);
        // Each context has a row for each line.
        let lines = (1..200).map(|line| (line * 2, hits(&[0, 1, 2, 3], &[])));
        sample::file(&mut coverage, "/p/a.c", lines, &[]);
        let view = View::new(&coverage, Selection::all(&coverage), &everything());
        let mut bytes = Vec::new();
        let mut table = Table::of_groups(&mut bytes, most).unwrap();
        for run in ["one", "two", "three"] {
            table.add(run, &view, true).unwrap();
        }
        table.finish().unwrap();
        let names = names.iter().map(String::len).sum::<usize>();
        assert!(
            bytes.len() < 3 * names,
            "{} bytes, names have {names}",
            bytes.len()
        );
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let groups = reader.metadata().row_groups();
        let rows: i64 = groups.iter().map(|group| group.num_rows()).sum();
        assert_eq!(rows, 3 * 5 * 199);
        // The names of one run are more than a group keeps.
        assert_eq!(groups.len(), 3);
    }

    #[test]
    fn a_run_without_lines_is_a_table_without_rows() {
        let coverage = sample::coverage(&CONTEXTS, &STREAMS);
        let (lines, groups) = read(written(&coverage, true, MOST.rows));
        assert!(lines.is_empty() && groups.is_empty());
    }

    #[test]
    fn what_the_output_says_is_said() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut full = Full;
        let table = Table::new(&mut full).unwrap();
        let error = table.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
