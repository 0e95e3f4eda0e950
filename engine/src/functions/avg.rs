//! `avg` over an exact sum: the same bits in any order.

use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, not_impl_err, plan_err};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::udaf_default_schema_name;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use super::group_state::{GroupState, Groups, Single, state_field};
use super::sum::{FloatTotal, WideSum};

/// `avg(x)` (`mean`) as f64: the exact sum, rounded, over the count. Null if there is no value.
/// Integers are summed as integers; decimals are averaged as floats.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactAvg {
    signature: Signature,
    aliases: Vec<String>,
}

impl ExactAvg {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["avg".into(), "mean".into()],
        }
    }
}

macro_rules! for_type {
    ($args:ident, $then:ident) => {
        match $args.expr_fields[0].data_type() {
            DataType::Int64 => $then!(SignedAvg),
            DataType::UInt64 => $then!(UnsignedAvg),
            _ => $then!(FloatAvg),
        }
    };
}

impl AggregateUDFImpl for ExactAvg {
    fn name(&self) -> &str {
        "exact_avg"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    // The column of a query that gives it no name is called as the user wrote it.
    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        let name = udaf_default_schema_name(self, params)?;
        Ok(name.replacen(self.name(), "avg", 1))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [t] if t.is_signed_integer() => Ok(vec![DataType::Int64]),
            [t] if t.is_unsigned_integer() => Ok(vec![DataType::UInt64]),
            [t] if t.is_numeric() || t.is_null() => Ok(vec![DataType::Float64]),
            [t] => plan_err!("avg takes a number, not {t}"),
            _ => plan_err!("avg takes one argument, not {}", arg_types.len()),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("avg(distinct ...) is not supported");
        }
        macro_rules! single {
            ($state:ty) => {
                Ok(Box::new(Single::<$state>::new(DataType::Float64, ())))
            };
        }
        for_type!(args, single)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![state_field(args.name, "avg")])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! groups {
            ($state:ty) => {
                Ok(Box::new(Groups::<$state>::new(DataType::Float64, ())))
            };
        }
        for_type!(args, groups)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

macro_rules! integer_avg {
    ($name:ident, $arrow:ty, $native:ty) => {
        #[derive(Debug, Default)]
        struct $name(WideSum);

        impl GroupState for $name {
            type Input = $arrow;
            type Output = Float64Type;
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

            fn finish(&self, (): &()) -> Result<Option<f64>> {
                Ok((self.0.count > 0).then(|| self.0.sum as f64 / self.0.count as f64))
            }
        }
    };
}
integer_avg!(SignedAvg, Int64Type, i64);
integer_avg!(UnsignedAvg, UInt64Type, u64);

#[derive(Debug, Default)]
struct FloatAvg(FloatTotal);

impl GroupState for FloatAvg {
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
        Ok(self.0.value().map(|(sum, count)| sum / count as f64))
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
