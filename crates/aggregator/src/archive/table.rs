//! Records as columns of Parquet, and back. Pure but for the bytes that it is given to write to or
//! to read from; knows nothing of plans.

mod read;

use std::{borrow::Cow, io::Write, sync::Arc};

use bytes::Bytes;
use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use pipeline_core::record::{self, Reader, RecordError, json};

use super::ChainId;
pub use read::{about, read_group};

/// Rows of a group, at most, and bytes of their lines, about: what readers hold at once.
pub const GROUP_ROWS: usize = 100_000;
pub const GROUP_BYTES: usize = 32 << 20;

const LEVEL: i32 = 3;

/// The columns, for every reader that there is. Only ever added to, at the end.
const SCHEMA: &str = "message record {
    required int64 timestamp (TIMESTAMP(MICROS, true));
    optional binary site (STRING);
    required binary path (STRING);
    required binary userAgent (STRING);
    optional binary method (STRING);
    optional int32 status;
    optional int64 bytes;
    optional double durationMs;
    optional binary remoteAddr (STRING);
    optional binary referer (STRING);
    optional binary protocol (STRING);
    optional binary extra (STRING);
    required binary topic (STRING);
    required int32 partition;
    required int64 offset;
    required int64 receivedAt (TIMESTAMP(MILLIS, true));
}";

/// Names of the text columns, in the order of [`Columns::texts`].
const TEXTS: [&str; 9] = [
    "site",
    "path",
    "userAgent",
    "method",
    "remoteAddr",
    "referer",
    "protocol",
    "extra",
    "topic",
];
const SITE: usize = 0;
const PATH: usize = 1;
const USER_AGENT: usize = 2;
const METHOD: usize = 3;
const REMOTE_ADDR: usize = 4;
const REFERER: usize = 5;
const PROTOCOL: usize = 6;
const EXTRA: usize = 7;
const TOPIC: usize = 8;

/// Places of the columns that files are sorted by.
const SORTED_BY: [i32; 2] = [1, 0];

/// Rows by column. Values that must be there are `Some`.
#[derive(Default)]
pub struct Columns {
    timestamp_us: Vec<Option<i64>>,
    received_ms: Vec<Option<i64>>,
    offset: Vec<Option<i64>>,
    bytes: Vec<Option<i64>>,
    partition: Vec<Option<i32>>,
    status: Vec<Option<i32>>,
    duration_ms: Vec<Option<f64>>,
    texts: [Vec<Option<ByteArray>>; TEXTS.len()],
}

/// Where a record stands in the log.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub chain: &'a ChainId,
    pub offset: i64,
    pub received_ms: i64,
}

impl Columns {
    /// Adds the record of `line`, which is a part of `lines`.
    ///
    /// # Errors
    /// Where it is none.
    pub fn push(
        &mut self,
        reader: &mut Reader,
        lines: &Bytes,
        line: &[u8],
        origin: Origin<'_>,
    ) -> std::result::Result<(), RecordError> {
        let fields = reader.read(line)?;
        let mut extra = Vec::new();
        let rest = record::append_rest(line, &mut extra)?;
        let text = |text: Cow<'_, str>| match text {
            // What needs no change is not copied.
            Cow::Borrowed(text) => ByteArray::from(lines.slice_ref(text.as_bytes())),
            Cow::Owned(text) => ByteArray::from(text.into_bytes()),
        };
        // Mostly that of the row before.
        let before = self.texts[TOPIC].last().cloned().flatten();
        let topic = before.filter(|topic| topic.data() == origin.chain.topic.as_bytes());
        let topic = topic.unwrap_or_else(|| ByteArray::from(&*origin.chain.topic));
        self.timestamp_us.push(Some(rest.timestamp_us));
        self.received_ms.push(Some(origin.received_ms));
        self.offset.push(Some(origin.offset));
        self.bytes.push(fields.bytes.map(|bytes| bytes as i64));
        self.partition.push(Some(origin.chain.partition.0));
        self.status.push(fields.status.map(i32::from));
        self.duration_ms.push(fields.duration_ms);
        for (at, value) in [
            (SITE, fields.site.map(text)),
            (PATH, Some(text(fields.path))),
            (USER_AGENT, Some(text(fields.user_agent))),
            (METHOD, fields.method.map(text)),
            (REMOTE_ADDR, fields.remote_addr.map(text)),
            (REFERER, fields.referer.map(text)),
            (PROTOCOL, fields.protocol.map(text)),
            (EXTRA, rest.any.then(|| ByteArray::from(extra))),
            (TOPIC, Some(topic)),
        ] {
            self.texts[at].push(value);
        }
        Ok(())
    }

    /// Adds a row that was read.
    pub fn push_row(&mut self, row: Row<'_>) {
        let (from, at) = (row.columns, row.at);
        self.timestamp_us.push(from.timestamp_us[at]);
        self.received_ms.push(from.received_ms[at]);
        self.offset.push(from.offset[at]);
        self.bytes.push(from.bytes[at]);
        self.partition.push(from.partition[at]);
        self.status.push(from.status[at]);
        self.duration_ms.push(from.duration_ms[at]);
        for (text, from) in self.texts.iter_mut().zip(&from.texts) {
            text.push(from[at].clone());
        }
    }

    /// How many rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.offset.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.count()).map(|at| Row { columns: self, at })
    }
}

/// One row of what was read.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a Columns,
    at: usize,
}

impl<'a> Row<'a> {
    #[must_use]
    pub fn timestamp_us(self) -> i64 {
        self.columns.timestamp_us[self.at].unwrap_or_default()
    }

    #[must_use]
    pub fn received_ms(self) -> i64 {
        self.columns.received_ms[self.at].unwrap_or_default()
    }

    #[must_use]
    pub fn offset(self) -> i64 {
        self.columns.offset[self.at].unwrap_or_default()
    }

    #[must_use]
    pub fn partition(self) -> i32 {
        self.columns.partition[self.at].unwrap_or_default()
    }

    #[must_use]
    pub fn topic(self) -> &'a str {
        self.text(TOPIC).unwrap_or_default()
    }

    #[must_use]
    pub fn site(self) -> Option<&'a str> {
        self.text(SITE)
    }

    /// The record as a line: its known fields, then the others as they came.
    pub fn append_json(self, out: &mut Vec<u8>) {
        let extra = self.text(EXTRA).unwrap_or_default();
        // Such a time is finer than the column.
        if !extra.starts_with("{\"timestamp\":") {
            out.extend_from_slice(b"{\"timestamp\":\"");
            out.extend_from_slice(record::format_us(self.timestamp_us()).as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(&extra.as_bytes()[..extra.len() - 1]);
        }
        let text = |name: &str, at: usize, out: &mut Vec<u8>| {
            if let Some(text) = self.text(at) {
                append_name(name, out);
                json::append_string(text, out);
            }
        };
        text("path", PATH, out);
        text("userAgent", USER_AGENT, out);
        text("site", SITE, out);
        text("method", METHOD, out);
        for (name, number) in [
            (
                "status",
                self.columns.status[self.at].map(|status| status.to_string()),
            ),
            (
                "bytes",
                self.columns.bytes[self.at].map(|bytes| bytes.to_string()),
            ),
            (
                "durationMs",
                self.columns.duration_ms[self.at].map(|ms| ms.to_string()),
            ),
        ] {
            if let Some(number) = number {
                append_name(name, out);
                out.extend_from_slice(number.as_bytes());
            }
        }
        text("remoteAddr", REMOTE_ADDR, out);
        text("referer", REFERER, out);
        text("protocol", PROTOCOL, out);
        if extra.is_empty() || extra.starts_with("{\"timestamp\":") {
            out.push(b'}');
        } else {
            out.push(b',');
            out.extend_from_slice(&extra.as_bytes()[1..]);
        }
    }

    /// Its value in each column as text, in the schema's order; `None`: there is none.
    #[must_use]
    pub fn cells(self) -> Vec<Option<Cow<'a, str>>> {
        let text = |at| self.text(at).map(Cow::Borrowed);
        let number = |number: Option<String>| number.map(Cow::Owned);
        let columns = self.columns;
        vec![
            Some(record::format_us(self.timestamp_us()).into()),
            text(SITE),
            text(PATH),
            text(USER_AGENT),
            text(METHOD),
            number(columns.status[self.at].map(|status| status.to_string())),
            number(columns.bytes[self.at].map(|bytes| bytes.to_string())),
            number(columns.duration_ms[self.at].map(|ms| ms.to_string())),
            text(REMOTE_ADDR),
            text(REFERER),
            text(PROTOCOL),
            text(EXTRA),
            text(TOPIC),
            Some(self.partition().to_string().into()),
            Some(self.offset().to_string().into()),
            Some(record::format_us(self.received_ms().saturating_mul(1000)).into()),
        ]
    }

    fn text(self, at: usize) -> Option<&'a str> {
        let text = self.columns.texts[at][self.at].as_ref()?;
        // Ours are UTF-8; a file that is not was not written by this.
        text.as_utf8().ok()
    }
}

fn append_name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Names of all columns, in the schema's order.
#[must_use]
pub fn names() -> Vec<String> {
    let schema = parse_message_type(SCHEMA).expect("a schema of ours");
    let fields = schema.get_fields().iter();
    fields.map(|field| field.name().to_owned()).collect()
}

/// A file that is written group by group.
pub struct Table<W: Write + Send>(SerializedFileWriter<W>);

impl<W: Write + Send> Table<W> {
    /// `about` is said in the file's metadata under `sluice`.
    ///
    /// # Errors
    /// As the file system says.
    pub fn begin(to: W, about: Option<String>) -> Result<Self> {
        let sorted = SORTED_BY.map(|column_idx| SortingColumn {
            column_idx,
            descending: false,
            nulls_first: true,
        });
        let about = about.map(|about| vec![KeyValue::new("sluice".to_owned(), about)]);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
            // Of pages, too: with the page index a reader skips most of a file.
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_sorting_columns(Some(sorted.to_vec()))
            .set_key_value_metadata(about)
            .set_created_by(concat!("sluice ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        SerializedFileWriter::new(to, schema, Arc::new(properties)).map(Self)
    }

    /// # Errors
    /// As the file system says.
    pub fn group(&mut self, columns: &Columns) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        let to = &mut group;
        // In the schema's order: each call is the next column.
        put::<Int64Type, _>(to, &columns.timestamp_us)?;
        for at in [SITE, PATH, USER_AGENT, METHOD] {
            put::<ByteArrayType, _>(to, &columns.texts[at])?;
        }
        put::<Int32Type, _>(to, &columns.status)?;
        put::<Int64Type, _>(to, &columns.bytes)?;
        put::<DoubleType, _>(to, &columns.duration_ms)?;
        for at in [REMOTE_ADDR, REFERER, PROTOCOL, EXTRA, TOPIC] {
            put::<ByteArrayType, _>(to, &columns.texts[at])?;
        }
        put::<Int32Type, _>(to, &columns.partition)?;
        put::<Int64Type, _>(to, &columns.offset)?;
        put::<Int64Type, _>(to, &columns.received_ms)?;
        group.close()?;
        Ok(())
    }

    /// # Errors
    /// As the file system says.
    pub fn end(self) -> Result<W> {
        self.0.into_inner()
    }
}

fn put<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[Option<T::T>],
) -> Result<()> {
    let column = group.next_column()?;
    let mut column = column.ok_or_else(|| ParquetError::General("no such column".to_owned()))?;
    let there: Vec<T::T> = values.iter().flatten().cloned().collect();
    let writer = column.typed::<T>();
    let optional = writer.get_descriptor().max_def_level() > 0;
    let levels: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    writer.write_batch(&there, optional.then_some(&levels), None)?;
    column.close()
}
