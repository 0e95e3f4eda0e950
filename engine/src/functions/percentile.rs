//! `approx_percentile_cont` from a log-bucket histogram instead of a t-digest, whose result
//! depends on the order of the rows.

use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, not_impl_err, plan_err};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::udaf_default_schema_name;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use datafusion::physical_expr::expressions::{CastExpr, Literal};

use super::group_state::{GroupState, Groups, Single, state_field};
use super::log_histogram::LogHistogram;

/// `approx_percentile_cont(x, q)` or `approx_percentile_cont(q) WITHIN GROUP (ORDER BY x)`, with
/// q a constant in 0..=1: the value at rank ⌈q·n⌉ as f64, with a relative error of at most
/// [`LogHistogram::RELATIVE_ERROR`]. Null if there is no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HistogramPercentile {
    signature: Signature,
    aliases: Vec<String>,
}

impl HistogramPercentile {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["approx_percentile_cont".into()],
        }
    }

    /// The percentile asked for.
    fn quantile(args: &AccumulatorArgs) -> Result<f64> {
        let mut expr = &args.exprs[1];
        while let Some(cast) = expr.downcast_ref::<CastExpr>() {
            expr = cast.expr();
        }
        let literal = expr
            .downcast_ref::<Literal>()
            .map(|literal| literal.value().cast_to(&DataType::Float64));
        let Some(Ok(ScalarValue::Float64(Some(q)))) = literal else {
            return plan_err!(
                "the second argument of approx_percentile_cont must be a constant, such as 0.95"
            );
        };
        let descending = args.order_bys.first().is_some_and(|o| o.options.descending);
        let q = if descending { 1.0 - q } else { q };
        if !(0.0..=1.0).contains(&q) {
            return plan_err!("approx_percentile_cont takes a percentile from 0 to 1, not {q}");
        }
        Ok(q)
    }
}

impl AggregateUDFImpl for HistogramPercentile {
    fn name(&self) -> &str {
        "histogram_percentile"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    // The column of a query that gives it no name is called as the user wrote it.
    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        let name = udaf_default_schema_name(self, params)?;
        Ok(name.replacen(self.name(), "approx_percentile_cont", 1))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [x, q] if (x.is_numeric() || x.is_null()) && q.is_numeric() => {
                Ok(vec![DataType::Float64, DataType::Float64])
            }
            [x, q] => {
                plan_err!("approx_percentile_cont takes a number and a percentile, not {x} and {q}")
            }
            _ => plan_err!(
                "approx_percentile_cont takes two arguments, a number and a percentile, not {}",
                arg_types.len()
            ),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("approx_percentile_cont(distinct ...) is not supported");
        }
        Ok(Box::new(Single::<HistogramState>::new(
            DataType::Float64,
            Self::quantile(&args)?,
        )))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![state_field(args.name, "histogram")])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::<HistogramState>::new(
            DataType::Float64,
            Self::quantile(&args)?,
        )))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug, Default)]
struct HistogramState(LogHistogram);

impl GroupState for HistogramState {
    type Input = Float64Type;
    type Output = Float64Type;
    /// The percentile.
    type Params = f64;

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
        self.0.merge(&LogHistogram::decode(state)?);
        Some(())
    }

    fn finish(&self, quantile: &f64) -> Result<Option<f64>> {
        Ok(self.0.quantile(*quantile))
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
