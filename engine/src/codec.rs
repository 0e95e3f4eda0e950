//! How rankmill's operators travel between the nodes of a cluster.
//!
//! Functions travel by name, everything of DataFusion's in its own protobuf messages, and
//! Ballista's operators through Ballista's codec, which [`physical`] wraps.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::from_proto::{
    parse_physical_exprs, parse_physical_sort_exprs,
};
use datafusion_proto::physical_plan::to_proto::{
    serialize_physical_exprs, serialize_physical_sort_exprs,
};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalSortExprNode};
use prost::Message;

use crate::fused::FusedExec;
use crate::fused::wire::{self, FusedMessage};
use crate::joins::GraceJoinExec;
use crate::joins::wire::{self as join_wire, GraceJoinMessage};
use crate::rank::{GroupLimitExec, RankExec, RankMode, Ranking};
use crate::salted::SaltExec;
use crate::salted::wire::{self as salted_wire, SaltMessage};
use crate::work::{Work, WorkExec, Workers};

/// What our messages begin with; the number is the version of the format. Another codec's
/// protobuf message that begins like this is as good as impossible: as a field it would be a
/// string of 97 bytes that begins with `nkmill`.
const MAGIC: &[u8] = b"rankmill:5:";

/// The codec of physical plans: rankmill's operators, and those of `inner`.
pub fn physical(inner: Arc<dyn PhysicalExtensionCodec>) -> Arc<dyn PhysicalExtensionCodec> {
    physical_with(inner, Workers::default())
}

/// The same for a process that does work itself, by these workers.
pub fn physical_with(
    inner: Arc<dyn PhysicalExtensionCodec>,
    workers: Workers,
) -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(PhysicalCodec { inner, workers })
}

#[derive(Debug)]
struct PhysicalCodec {
    inner: Arc<dyn PhysicalExtensionCodec>,
    workers: Workers,
}

/// An operator of ours.
#[derive(Clone, PartialEq, Message)]
struct OperatorMessage {
    #[prost(oneof = "Operator", tags = "1, 2, 3, 4, 5, 6")]
    operator: Option<Operator>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Operator {
    #[prost(message, tag = "1")]
    Rank(RankMessage),
    #[prost(message, tag = "2")]
    Fused(FusedMessage),
    #[prost(message, tag = "3")]
    Salt(SaltMessage),
    #[prost(message, tag = "4")]
    GroupLimit(GroupLimitMessage),
    #[prost(message, tag = "5")]
    Work(WorkMessage),
    #[prost(message, tag = "6")]
    GraceJoin(GraceJoinMessage),
}

#[derive(Clone, PartialEq, Message)]
struct WorkMessage {
    #[prost(string, tag = "1")]
    worker: String,
    #[prost(string, tag = "2")]
    options: String,
    #[prost(string, tag = "3")]
    place: String,
}

#[derive(Clone, PartialEq, Message)]
struct RankMessage {
    #[prost(bool, tag = "1")]
    last: bool,
    #[prost(string, repeated, tag = "2")]
    groups: Vec<String>,
    #[prost(string, tag = "3")]
    item: String,
    #[prost(message, repeated, tag = "4")]
    order: Vec<OrderMessage>,
    #[prost(uint64, tag = "5")]
    top: u64,
    #[prost(string, repeated, tag = "6")]
    totals: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OrderMessage {
    #[prost(string, tag = "1")]
    column: String,
    #[prost(bool, tag = "2")]
    descending: bool,
}

#[derive(Clone, PartialEq, Message)]
struct GroupLimitMessage {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<PhysicalExprNode>,
    #[prost(message, repeated, tag = "2")]
    order: Vec<PhysicalSortExprNode>,
    #[prost(uint64, tag = "3")]
    limit: u64,
}

fn rank_message(exec: &RankExec) -> RankMessage {
    let ranking = exec.ranking();
    let order = ranking
        .order
        .iter()
        .map(|(column, descending)| OrderMessage {
            column: column.clone(),
            descending: *descending,
        });
    RankMessage {
        last: exec.mode() == RankMode::Final,
        groups: ranking.groups.clone(),
        item: ranking.item.clone(),
        order: order.collect(),
        top: ranking.top as u64,
        totals: ranking.totals.clone(),
    }
}

fn rank_exec(message: RankMessage, input: Arc<dyn ExecutionPlan>) -> Result<RankExec> {
    let mode = if message.last {
        RankMode::Final
    } else {
        RankMode::Local
    };
    let order = message.order.into_iter();
    let ranking = Ranking {
        groups: message.groups,
        item: message.item,
        order: order
            .map(|order| (order.column, order.descending))
            .collect(),
        top: usize::try_from(message.top)
            .map_err(|_| exec_datafusion_err!("a ranking keeps {} ranks", message.top))?,
        totals: message.totals,
    };
    RankExec::try_new(input, Arc::new(ranking), mode)
}

fn group_limit_message(
    exec: &GroupLimitExec,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<GroupLimitMessage> {
    let order = exec.order().iter().cloned();
    Ok(GroupLimitMessage {
        groups: serialize_physical_exprs(exec.groups(), codec, converter)?,
        order: serialize_physical_sort_exprs(order, codec, converter)?,
        limit: exec.limit() as u64,
    })
}

fn group_limit_exec(
    message: &GroupLimitMessage,
    input: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<GroupLimitExec> {
    let schema = input.schema();
    let groups = parse_physical_exprs(&message.groups, context, &schema, converter)?;
    let order = parse_physical_sort_exprs(&message.order, context, &schema, converter)?;
    let limit = usize::try_from(message.limit)
        .map_err(|_| exec_datafusion_err!("a group keeps {} rows", message.limit))?;
    GroupLimitExec::try_new(input, groups, order, limit)
}

impl PhysicalExtensionCodec for PhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(ours) = buf.strip_prefix(MAGIC) else {
            return self.inner.try_decode(buf, inputs, ctx, proto_converter);
        };
        let message = OperatorMessage::decode(ours)
            .map_err(|e| DataFusionError::External(Box::new(e)))?
            .operator;
        match (message, inputs) {
            (Some(Operator::Rank(message)), [input]) => {
                Ok(Arc::new(rank_exec(message, Arc::clone(input))?))
            }
            (Some(Operator::Fused(message)), [input]) => {
                let context = PhysicalPlanDecodeContext::new(ctx, self);
                let input = Arc::clone(input);
                Ok(Arc::new(wire::decode(
                    message,
                    input,
                    &context,
                    proto_converter,
                )?))
            }
            (Some(Operator::Salt(message)), [input]) => {
                let context = PhysicalPlanDecodeContext::new(ctx, self);
                let input = Arc::clone(input);
                Ok(Arc::new(salted_wire::decode(
                    &message,
                    input,
                    &context,
                    proto_converter,
                )?))
            }
            (Some(Operator::GraceJoin(message)), [build, probe]) => {
                let context = PhysicalPlanDecodeContext::new(ctx, self);
                let (build, probe) = (Arc::clone(build), Arc::clone(probe));
                let exec = join_wire::decode(&message, build, probe, &context, proto_converter)?;
                Ok(Arc::new(exec))
            }
            (Some(Operator::GroupLimit(message)), [input]) => {
                let context = PhysicalPlanDecodeContext::new(ctx, self);
                let input = Arc::clone(input);
                let exec = group_limit_exec(&message, input, &context, proto_converter)?;
                Ok(Arc::new(exec))
            }
            (Some(Operator::Work(message)), [input]) => {
                let work = Work {
                    worker: message.worker,
                    options: message.options,
                    place: message.place,
                };
                let exec = WorkExec::try_new(Arc::clone(input), work, self.workers.clone())?;
                Ok(Arc::new(exec))
            }
            _ => Err(exec_datafusion_err!(
                "an operator of another version of rankmill: all nodes of a cluster must have the same"
            )),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let operator = if let Some(rank) = node.downcast_ref::<RankExec>() {
            Operator::Rank(rank_message(rank))
        } else if let Some(fused) = node.downcast_ref::<FusedExec>() {
            Operator::Fused(wire::encode(fused, self, proto_converter)?)
        } else if let Some(salt) = node.downcast_ref::<SaltExec>() {
            Operator::Salt(salted_wire::encode(salt, self, proto_converter)?)
        } else if let Some(join) = node.downcast_ref::<GraceJoinExec>() {
            Operator::GraceJoin(join_wire::encode(join, self, proto_converter)?)
        } else if let Some(limit) = node.downcast_ref::<GroupLimitExec>() {
            Operator::GroupLimit(group_limit_message(limit, self, proto_converter)?)
        } else if let Some(exec) = node.downcast_ref::<WorkExec>() {
            let Work {
                worker,
                options,
                place,
            } = exec.work().clone();
            Operator::Work(WorkMessage {
                worker,
                options,
                place,
            })
        } else {
            return self.inner.try_encode(node, buf, proto_converter);
        };
        let message = OperatorMessage {
            operator: Some(operator),
        };
        buf.extend_from_slice(MAGIC);
        message
            .encode(buf)
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.inner.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_higher_order_function(
        &self,
        name: &str,
        buf: &[u8],
    ) -> Result<Arc<HigherOrderUDF>> {
        self.inner.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_higher_order_function(
        &self,
        node: &HigherOrderUDF,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        self.inner.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::compute::SortOptions;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, Column};
    use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
    use datafusion_proto::protobuf::PhysicalPlanNode;

    use super::*;
    use crate::session::{Session, SessionOptions};

    fn there_and_back(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let codec = physical(Arc::new(DefaultPhysicalExtensionCodec {}));
        let sent = PhysicalPlanNode::try_from_physical_plan(Arc::clone(plan), codec.as_ref());
        let session = Session::new(&SessionOptions::default()).unwrap();
        let context = session.context().task_ctx();
        let received = sent
            .unwrap()
            .try_into_physical_plan(&context, codec.as_ref());
        received.unwrap()
    }

    #[test]
    fn a_ranking_comes_back_as_it_went() {
        let schema = Schema::new(vec![
            Field::new("date", DataType::Date32, false),
            Field::new("page", DataType::Utf8View, true),
            Field::new("hits", DataType::Int64, false),
        ]);
        let ranking = Arc::new(Ranking {
            groups: vec!["date".into()],
            item: "page".into(),
            order: vec![("hits".into(), true)],
            top: 7,
            totals: vec!["hits".into()],
        });
        let input = Arc::new(EmptyExec::new(Arc::new(schema)));
        let local = RankExec::try_new(input, Arc::clone(&ranking), RankMode::Local).unwrap();
        let last = RankExec::try_new(Arc::new(local), Arc::clone(&ranking), RankMode::Final);
        let plan: Arc<dyn ExecutionPlan> = Arc::new(last.unwrap());
        let received = there_and_back(&plan);
        let last = received.downcast_ref::<RankExec>().unwrap();
        assert_eq!((last.ranking(), last.mode()), (&ranking, RankMode::Final));
        let local = last.children()[0].downcast_ref::<RankExec>().unwrap();
        assert_eq!((local.ranking(), local.mode()), (&ranking, RankMode::Local));
        assert_eq!(received.schema(), plan.schema());
    }

    #[test]
    fn a_limit_of_groups_comes_back_as_it_went() {
        let schema = Schema::new(vec![
            Field::new("page", DataType::Utf8View, true),
            Field::new("hits", DataType::Float64, true),
            Field::new("id", DataType::Int64, true),
        ]);
        let input = Arc::new(EmptyExec::new(Arc::new(schema)));
        let column = |name: &str, at| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
        let double = BinaryExpr::new(column("hits", 1), Operator::Plus, column("hits", 1));
        let order = [(false, true), (true, true), (true, false)].map(|(descending, first)| {
            let expr = Arc::new(double.clone());
            PhysicalSortExpr::new(expr, SortOptions::new(descending, first))
        });
        let groups = vec![column("page", 0), column("id", 2)];
        let exec = GroupLimitExec::try_new(input, groups, order.to_vec(), 7).unwrap();
        let plan: Arc<dyn ExecutionPlan> = Arc::new(exec);
        let received = there_and_back(&plan);
        let received = received.downcast_ref::<GroupLimitExec>().unwrap();
        assert_eq!(format!("{received:?}"), format!("{plan:?}"));
    }

    #[test]
    fn work_comes_back_as_it_went() {
        let orders = Field::new(crate::work::ORDER_COLUMN, DataType::Utf8View, true);
        let input = Arc::new(EmptyExec::new(Arc::new(Schema::new(vec![orders]))));
        let work = Work {
            worker: "w".to_owned(),
            options: "{}".to_owned(),
            place: "s3://bucket/lake".to_owned(),
        };
        let exec = WorkExec::try_new(input, work.clone(), Workers::default()).unwrap();
        let plan: Arc<dyn ExecutionPlan> = Arc::new(exec);
        let received = there_and_back(&plan);
        assert_eq!(received.downcast_ref::<WorkExec>().unwrap().work(), &work);
    }

    #[test]
    fn an_unknown_operator_names_the_cause() {
        let codec = physical(Arc::new(DefaultPhysicalExtensionCodec {}));
        let session = Session::new(&SessionOptions::default()).unwrap();
        let context = session.context().task_ctx();
        let converter = datafusion_proto::physical_plan::DefaultPhysicalProtoConverter {};
        let error = codec.try_decode(MAGIC, &[], &context, &converter);
        assert!(error.unwrap_err().to_string().contains("another version"));
    }
}
