//! The operator between the nodes of a cluster.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Literal, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use super::exec::{SaltExec, Salting, Side};
use crate::fused::wire::{broken, projected, projection};

/// A [`SaltExec`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SaltMessage {
    #[prost(bool, tag = "1")]
    dimension: bool,
    #[prost(uint32, tag = "2")]
    salts: u32,
    #[prost(uint64, tag = "3")]
    table_bytes: u64,
    /// A projection of the side: its key, then the hot keys as literals.
    #[prost(bytes = "vec", tag = "4")]
    keys: Vec<u8>,
}

pub(crate) fn encode(
    exec: &SaltExec,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<SaltMessage> {
    let salting = exec.salting();
    let hot = salting.hot.iter().map(|key| lit(key.clone()));
    let exprs = std::iter::once(Arc::clone(exec.key())).chain(hot);
    let keys = projection(exprs.collect(), &exec.children()[0].schema())?;
    let keys = converter.execution_plan_to_proto(&keys, codec)?;
    Ok(SaltMessage {
        dimension: exec.side() == Side::Dimension,
        salts: salting.salts,
        table_bytes: salting.table_bytes,
        keys: keys.encode_to_vec(),
    })
}

pub(crate) fn decode(
    message: &SaltMessage,
    input: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<SaltExec> {
    let keys = PhysicalPlanNode::decode(message.keys.as_slice())
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
    let keys = converter.proto_to_execution_plan(&keys, context)?;
    let mut exprs = projected(&keys)?.into_iter();
    let key = exprs.next().ok_or_else(|| broken("the key of a join"))?;
    let literal = |expr: Arc<dyn PhysicalExpr>| -> Result<ScalarValue> {
        let literal = expr.downcast_ref::<Literal>();
        let literal = literal.ok_or_else(|| broken("a hot key"))?;
        Ok(literal.value().clone())
    };
    let salting = Salting {
        hot: exprs.map(literal).collect::<Result<_>>()?,
        salts: message.salts,
        table_bytes: message.table_bytes,
    };
    let side = match message.dimension {
        true => Side::Dimension,
        false => Side::Log,
    };
    SaltExec::try_new(input, key, Arc::new(salting), side)
}
