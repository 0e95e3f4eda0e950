//! Numbers texts in the order of first sight.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr_common::binary_map::OutputType;
use datafusion::physical_expr_common::binary_view_map::ArrowBytesViewMap;

/// Texts and their numbers; a null has one of its own.
#[derive(Debug)]
pub(super) struct TextNumbers {
    map: ArrowBytesViewMap<u32>,
    next: u32,
    batch: Vec<u32>,
}

impl Default for TextNumbers {
    fn default() -> Self {
        Self {
            map: ArrowBytesViewMap::new(OutputType::Utf8View),
            next: 0,
            batch: Vec::new(),
        }
    }
}

impl TextNumbers {
    /// The numbers of a column's texts, whatever their type.
    pub(super) fn number(&mut self, column: &ArrayRef) -> Result<&[u32]> {
        let views = match column.data_type() {
            DataType::Utf8View => column,
            _ => &cast(column, &DataType::Utf8View)?,
        };
        self.batch.clear();
        let (next, batch) = (&mut self.next, &mut self.batch);
        let mut full = false;
        self.map.insert_if_new(
            views,
            |_| {
                let number = *next;
                full |= number == u32::MAX;
                *next = next.wrapping_add(1);
                number
            },
            |number| batch.push(number),
        );
        if full {
            return exec_err!("more than 2^32 different texts in one task");
        }
        Ok(&self.batch)
    }

    /// What [`TextNumbers::number`] gave last.
    pub(super) fn last_numbers(&self) -> &[u32] {
        &self.batch
    }

    /// How many numbers were given.
    pub(super) fn len(&self) -> usize {
        self.next as usize
    }

    /// The texts in the order of their numbers. The map gives them only when it is taken apart,
    /// so it is built anew.
    pub(super) fn texts(&mut self) -> Result<ArrayRef> {
        let texts = self.map.take().into_state();
        self.next = 0;
        self.number(&texts)?;
        Ok(texts)
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.map.size() + self.batch.capacity() * size_of::<u32>()
    }
}
