//! Parquet back to columns.

use parquet::{
    column::reader::get_typed_column_reader,
    data_type::{ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    file::reader::{FileReader, RowGroupReader},
};

use super::{
    Columns, EXTRA, METHOD, PATH, PROTOCOL, REFERER, REMOTE_ADDR, SITE, TOPIC, USER_AGENT, names,
};

/// The rows of one group.
///
/// # Errors
/// Where the file is damaged, or none of ours.
pub fn read_group(file: &dyn FileReader, at: usize) -> Result<Columns> {
    let group = file.get_row_group(at)?;
    let mut read = Reading {
        rows: usize::try_from(group.metadata().num_rows()).unwrap_or_default(),
        group: &*group,
        column: 0,
    };
    let mut columns = Columns {
        timestamp_us: read.next::<Int64Type>()?,
        ..Columns::default()
    };
    for at in [SITE, PATH, USER_AGENT, METHOD] {
        columns.texts[at] = read.next::<ByteArrayType>()?;
    }
    columns.status = read.next::<Int32Type>()?;
    columns.bytes = read.next::<Int64Type>()?;
    columns.duration_ms = read.next::<DoubleType>()?;
    for at in [REMOTE_ADDR, REFERER, PROTOCOL, EXTRA, TOPIC] {
        columns.texts[at] = read.next::<ByteArrayType>()?;
    }
    columns.partition = read.next::<Int32Type>()?;
    columns.offset = read.next::<Int64Type>()?;
    columns.received_ms = read.next::<Int64Type>()?;
    Ok(columns)
}

struct Reading<'a> {
    group: &'a dyn RowGroupReader,
    rows: usize,
    column: usize,
}

impl Reading<'_> {
    fn next<T: DataType>(&mut self) -> Result<Vec<Option<T::T>>> {
        let at = self.column;
        self.column += 1;
        let mut reader = get_typed_column_reader::<T>(self.group.get_column_reader(at)?);
        let column = self.group.metadata().schema_descr().column(at);
        let optional = column.max_def_level() > 0;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let levels_to = optional.then_some(&mut levels);
        let (rows, _, _) = reader.read_records(self.rows, levels_to, None, &mut values)?;
        if rows != self.rows {
            let found = format!("{} has {rows} of {} rows", column.name(), self.rows);
            return Err(ParquetError::General(found));
        }
        let mut values = values.into_iter();
        if !optional {
            return Ok(values.map(Some).collect());
        }
        let value = |level: i16| if level > 0 { values.next() } else { None };
        Ok(levels.into_iter().map(value).collect())
    }
}

/// What `about` says of a file that has the columns of ours.
///
/// # Errors
/// Where it has others, or says nothing.
pub fn about(file: &dyn FileReader) -> Result<String> {
    let metadata = file.metadata().file_metadata();
    let found = metadata.schema_descr().columns().iter();
    if !found.map(|column| column.name()).eq(names().iter()) {
        return Err(ParquetError::General("has other columns".to_owned()));
    }
    let pairs = metadata.key_value_metadata().into_iter().flatten();
    let mut ours = pairs.filter(|pair| pair.key == "sluice");
    let about = ours.next().and_then(|pair| pair.value.clone());
    about.ok_or_else(|| ParquetError::General("does not say what it holds".to_owned()))
}
