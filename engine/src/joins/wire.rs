//! The operator between the nodes of a cluster.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use super::grace::{GraceJoinExec, join_of};
use crate::fused::wire::broken;

/// A [`GraceJoinExec`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraceJoinMessage {
    #[prost(uint64, tag = "1")]
    build_rows: u64,
    /// What joins each part, as DataFusion sends it, over inputs without rows.
    #[prost(bytes = "vec", tag = "2")]
    join: Vec<u8>,
}

pub(crate) fn encode(
    exec: &GraceJoinExec,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<GraceJoinMessage> {
    let join = exec.join();
    let empty = |side: &Arc<dyn ExecutionPlan>| {
        Arc::new(EmptyExec::new(side.schema())) as Arc<dyn ExecutionPlan>
    };
    let join = join_of(join, empty(join.left()), empty(join.right()))?;
    let join: Arc<dyn ExecutionPlan> = Arc::new(join);
    let join = converter.execution_plan_to_proto(&join, codec)?;
    Ok(GraceJoinMessage {
        build_rows: exec.build_rows() as u64,
        join: join.encode_to_vec(),
    })
}

pub(crate) fn decode(
    message: &GraceJoinMessage,
    build: Arc<dyn ExecutionPlan>,
    probe: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<GraceJoinExec> {
    let join = PhysicalPlanNode::decode(message.join.as_slice())
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
    let join = converter.proto_to_execution_plan(&join, context)?;
    let join = join.downcast_ref::<HashJoinExec>();
    let join = join.ok_or_else(|| broken("a join"))?;
    let join = join_of(join, build, probe)?;
    let rows = usize::try_from(message.build_rows).unwrap_or(usize::MAX);
    GraceJoinExec::try_new(join, rows)
}
