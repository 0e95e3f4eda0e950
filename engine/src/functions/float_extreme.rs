//! `min` and `max` of floats by one total order, so that they never depend on the rows' order.
//!
//! DataFusion's start from the largest finite number, and what a NaN or a zero's sign does
//! depends on which row comes first. The rule [`Aggregates`](crate::rules::Aggregates) puts these in
//! their place.

use datafusion::arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use super::group_state::{GroupState, Groups, Single, state_field};

/// `float_min(x)` or `float_max(x)` over f64 or f32: −∞ < … < −0 < 0 < … < +∞ < NaN, as IEEE 754's
/// totalOrder with one NaN. Null if there is no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FloatExtreme {
    largest: bool,
    signature: Signature,
}

impl FloatExtreme {
    pub(crate) fn new(largest: bool) -> Self {
        Self {
            largest,
            signature: Signature::uniform(
                1,
                vec![DataType::Float64, DataType::Float32],
                Volatility::Immutable,
            ),
        }
    }
}

/// Calls `$then!(State, output type)` for the argument's type and the extreme wanted.
macro_rules! for_type {
    ($self:ident, $args:ident, $then:ident) => {
        match ($args.return_field.data_type(), $self.largest) {
            (DataType::Float32, true) => $then!(Extreme32<true>, DataType::Float32),
            (DataType::Float32, false) => $then!(Extreme32<false>, DataType::Float32),
            (_, true) => $then!(Extreme64<true>, DataType::Float64),
            (_, false) => $then!(Extreme64<false>, DataType::Float64),
        }
    };
}

impl AggregateUDFImpl for FloatExtreme {
    fn name(&self) -> &str {
        match self.largest {
            true => "float_max",
            false => "float_min",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        macro_rules! single {
            ($state:ty, $output:expr) => {
                Box::new(Single::<$state>::new($output, ()))
            };
        }
        Ok(for_type!(self, args, single))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![state_field(args.name, "extreme")])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! groups {
            ($state:ty, $output:expr) => {
                Box::new(Groups::<$state>::new($output, ()))
            };
        }
        Ok(for_type!(self, args, groups))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

macro_rules! extreme_state {
    ($name:ident, $arrow:ty, $native:ty) => {
        #[derive(Debug, Default)]
        struct $name<const LARGEST: bool>(Option<$native>);

        impl<const LARGEST: bool> GroupState for $name<LARGEST> {
            type Input = $arrow;
            type Output = $arrow;
            type Params = ();

            fn add(&mut self, value: $native) {
                let value = if value.is_nan() {
                    <$native>::NAN
                } else {
                    value
                };
                let better = self.0.is_none_or(|best| match LARGEST {
                    true => value.total_cmp(&best).is_gt(),
                    false => value.total_cmp(&best).is_lt(),
                });
                if better {
                    self.0 = Some(value);
                }
            }

            fn encode(&self, out: &mut Vec<u8>) {
                if let Some(value) = self.0 {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }

            fn merge(&mut self, state: &[u8]) -> Option<()> {
                if !state.is_empty() {
                    self.add(<$native>::from_le_bytes(state.try_into().ok()?));
                }
                Some(())
            }

            fn finish(&self, (): &()) -> Result<Option<$native>> {
                Ok(self.0)
            }
        }
    };
}
extreme_state!(Extreme64, Float64Type, f64);
extreme_state!(Extreme32, Float32Type, f32);
