//! `sum` that is exact: integers and decimals in 128 bits, floats in a superaccumulator.

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, DecimalType, FieldRef, Float64Type, Int64Type, UInt64Type,
};
use datafusion::common::{Result, exec_datafusion_err, not_impl_err, plan_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::udaf_default_schema_name;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

use super::exact_float::ExactFloatSum;
use super::group_state::{GroupState, Groups, Single, state_field};

/// `sum(x)`: integers give i64 (unsigned: u64) or an error when the sum doesn't fit; floats give
/// the exact sum rounded once; decimals keep their scale. Null if there is no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactSum {
    /// DataFusion's own, for the types that are not measured in logs: durations, intervals and
    /// other widths of decimals.
    builtin: Arc<AggregateUDF>,
    signature: Signature,
    aliases: Vec<String>,
}

impl ExactSum {
    pub(super) fn new() -> Self {
        Self {
            builtin: sum_udaf(),
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["sum".into()],
        }
    }
}

/// Calls `$then!(State, params)` for the types computed here, `$otherwise` for the others.
macro_rules! for_type {
    ($args:ident, $then:ident, $otherwise:expr) => {
        match $args.return_field.data_type() {
            DataType::Int64 => $then!(IntegerSum<Int64Type>, ()),
            DataType::UInt64 => $then!(IntegerSum<UInt64Type>, ()),
            DataType::Float64 => $then!(FloatSum, ()),
            DataType::Decimal128(precision, _) => $then!(DecimalSum, *precision),
            _ => $otherwise,
        }
    };
}

impl AggregateUDFImpl for ExactSum {
    // Not "sum": DataFusion's rule SingleDistinctToGroupBy takes functions of that name apart
    // into sums of rounded sums.
    fn name(&self) -> &str {
        "exact_sum"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    // The column of a query that gives it no name is called as the user wrote it.
    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        let name = udaf_default_schema_name(self, params)?;
        Ok(name.replacen(self.name(), "sum", 1))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [t] if t.is_signed_integer() || t.is_null() => Ok(vec![DataType::Int64]),
            [t] if t.is_unsigned_integer() => Ok(vec![DataType::UInt64]),
            [t] if t.is_floating() => Ok(vec![DataType::Float64]),
            [t @ (DataType::Duration(_) | DataType::Interval(_))] => Ok(vec![t.clone()]),
            [t] if t.is_numeric() => Ok(vec![t.clone()]),
            [t] => plan_err!("sum takes a number, not {t}"),
            _ => plan_err!("sum takes one argument, not {}", arg_types.len()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("sum(distinct ...) is not supported");
        }
        let output = args.return_field.data_type().clone();
        macro_rules! single {
            ($state:ty, $params:expr) => {
                Ok(Box::new(Single::<$state>::new(output, $params)))
            };
        }
        for_type!(args, single, self.builtin.accumulator(args))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        macro_rules! binary {
            ($state:ty, $params:expr) => {{
                let _ = $params;
                Ok(vec![state_field(args.name, "sum")])
            }};
        }
        for_type!(args, binary, self.builtin.state_fields(args))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let output = args.return_field.data_type().clone();
        macro_rules! groups {
            ($state:ty, $params:expr) => {
                Ok(Box::new(Groups::<$state>::new(output, $params)))
            };
        }
        for_type!(args, groups, self.builtin.create_groups_accumulator(args))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.builtin.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Sum and count in 128 and 64 bits: 2⁶⁴ values of 64 bits can't overflow it.
#[derive(Debug, Default)]
pub(super) struct WideSum {
    pub(super) sum: i128,
    pub(super) count: u64,
}

impl WideSum {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sum.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sum, count) = bytes.split_first_chunk::<16>()?;
        Some(Self {
            sum: i128::from_le_bytes(*sum),
            count: u64::from_le_bytes(count.try_into().ok()?),
        })
    }

    pub(super) fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        let other = Self::decode(bytes)?;
        self.sum += other.sum;
        self.count += other.count;
        Some(())
    }
}

struct IntegerSum<T>(WideSum, std::marker::PhantomData<T>);

impl<T> Default for IntegerSum<T> {
    fn default() -> Self {
        Self(WideSum::default(), std::marker::PhantomData)
    }
}

macro_rules! integer_sum {
    ($arrow:ty, $native:ty) => {
        impl GroupState for IntegerSum<$arrow> {
            type Input = $arrow;
            type Output = $arrow;
            type Params = ();

            fn add(&mut self, value: $native) {
                self.0.sum += i128::from(value);
                self.0.count += 1;
            }

            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }

            fn merge(&mut self, state: &[u8]) -> Option<()> {
                self.0.merge(state)
            }

            fn finish(&self, (): &()) -> Result<Option<$native>> {
                if self.0.count == 0 {
                    return Ok(None);
                }
                match <$native>::try_from(self.0.sum) {
                    Ok(sum) => Ok(Some(sum)),
                    Err(_) => Err(exec_datafusion_err!(
                        "a sum of integers is {}, which does not fit 64 bits; \
                         sum a float or a decimal instead, such as sum(x * 1.0)",
                        self.0.sum
                    )),
                }
            }
        }
    };
}
integer_sum!(Int64Type, i64);
integer_sum!(UInt64Type, u64);

/// A sum of decimals of one scale. Overflow is kept until the end, so that it does not depend
/// on the order: 10⁹ values of 38 digits may leave 128 bits, so the sum is kept in two halves.
#[derive(Debug, Default)]
struct DecimalSum {
    /// Weighs 2⁶⁴.
    high: i128,
    /// Less than 2⁶⁴ a value.
    low: i128,
    count: u64,
}

impl GroupState for DecimalSum {
    type Input = Decimal128Type;
    type Output = Decimal128Type;
    type Params = u8;

    fn add(&mut self, value: i128) {
        self.high += value >> 64;
        self.low += value & i128::from(u64::MAX);
        self.count += 1;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.high.to_le_bytes());
        out.extend_from_slice(&self.low.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
    }

    fn merge(&mut self, state: &[u8]) -> Option<()> {
        let (high, rest) = state.split_first_chunk::<16>()?;
        let (low, count) = rest.split_first_chunk::<16>()?;
        self.high += i128::from_le_bytes(*high);
        self.low += i128::from_le_bytes(*low);
        self.count += u64::from_le_bytes(count.try_into().ok()?);
        Some(())
    }

    fn finish(&self, precision: &u8) -> Result<Option<i128>> {
        if self.count == 0 {
            return Ok(None);
        }
        let high = self.high + (self.low >> 64);
        let low = self.low & i128::from(u64::MAX);
        i64::try_from(high)
            .ok()
            .map(|high| i128::from(high) << 64 | low)
            .filter(|sum| Decimal128Type::is_valid_decimal_precision(*sum, *precision))
            .map(Some)
            .ok_or_else(|| {
                exec_datafusion_err!("a sum of decimals does not fit {precision} digits")
            })
    }
}

/// Whole numbers below this are added as such, as long as so many fit 64 bits.
const MAX_WHOLE: u64 = 1 << 31;

/// Exact sum and count of floats. Small, for there is one for each group: what logs hold is mostly
/// whole (flags, prices, bytes), and the rest lies elsewhere.
#[derive(Debug, Default)]
pub(super) struct FloatTotal {
    /// The sum of whole numbers.
    whole: i64,
    count: u64,
    /// The sum of all others.
    others: Option<Box<ExactFloatSum>>,
}

impl FloatTotal {
    /// Something that [`add`](Self::add) begins to read with.
    #[inline]
    pub(super) fn peek(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        // NaN gives 0, and differs from it.
        let whole = value as i64;
        if whole as f64 == value && whole.unsigned_abs() < MAX_WHOLE && self.count < MAX_WHOLE {
            self.whole += whole;
        } else {
            self.others.get_or_insert_default().add(value);
        }
    }

    fn sum(&self) -> ExactFloatSum {
        let mut sum = self.others.as_deref().cloned().unwrap_or_default();
        // As a float it might be rounded, its halves aren't.
        let low = self.whole.rem_euclid(MAX_WHOLE as i64);
        sum.add((self.whole - low) as f64);
        sum.add(low as f64);
        sum
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        self.sum().encode(out);
    }

    pub(super) fn merge(&mut self, state: &[u8]) -> Option<()> {
        let (count, sum) = state.split_first_chunk::<8>()?;
        self.count += u64::from_le_bytes(*count);
        let others = self.others.get_or_insert_default();
        others.merge(&ExactFloatSum::decode(sum)?);
        Some(())
    }

    /// Sum and count; `None` without a value.
    pub(super) fn value(&self) -> Option<(f64, u64)> {
        (self.count > 0).then(|| (self.sum().value(), self.count))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let others = self.others.as_deref();
        others.map_or(0, |sum| size_of_val(sum) + sum.heap_bytes())
    }
}

#[derive(Debug, Default)]
struct FloatSum(FloatTotal);

impl GroupState for FloatSum {
    type Input = Float64Type;
    type Output = Float64Type;
    type Params = ();

    fn add(&mut self, value: f64) {
        self.0.add(value);
    }

    const PEEKS: bool = true;
    fn peek(&self) -> u64 {
        self.0.peek()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn merge(&mut self, state: &[u8]) -> Option<()> {
        self.0.merge(state)
    }

    fn finish(&self, (): &()) -> Result<Option<f64>> {
        Ok(self.0.value().map(|(sum, _)| sum))
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whole or not, large or small, split or not: as the exact sum of all.
        #[test]
        fn totals_are_exact(
            values in prop::collection::vec(
                prop_oneof![
                    4 => (-5i32..5).prop_map(f64::from),
                    2 => any::<i32>().prop_map(f64::from),
                    2 => any::<i64>().prop_map(|value| value as f64),
                    2 => -1e3f64..1e3,
                    1 => prop::sample::select(vec![-0.0, 0.1, 1e300, f64::NAN, f64::INFINITY]),
                ],
                0..200,
            ),
            cut in 0usize..200,
        ) {
            let mut exact = ExactFloatSum::default();
            values.iter().for_each(|value| exact.add(*value));
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut total = FloatTotal::default();
            let mut other = FloatTotal::default();
            left.iter().for_each(|value| total.add(*value));
            right.iter().for_each(|value| other.add(*value));
            let mut bytes = Vec::new();
            other.encode(&mut bytes);
            total.merge(&bytes).unwrap();
            let expected = (!values.is_empty()).then(|| exact.value().to_bits());
            prop_assert_eq!(total.value().map(|(sum, _)| sum.to_bits()), expected);
            prop_assert_eq!(total.count, values.len() as u64);
        }
    }

    /// More than a float holds.
    #[test]
    fn whole_numbers_are_not_rounded() {
        let mut total = FloatTotal::default();
        (0..1 << 23).for_each(|_| total.add(f64::from(i32::MAX)));
        total.add(1.0);
        total.add(-(f64::from(i32::MAX) * f64::from(1 << 23)));
        assert_eq!(total.value(), Some((1.0, (1 << 23) + 2)));
    }
}
