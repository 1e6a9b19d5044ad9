//! L4. The library's own tasks: ordinary tasks by which containers look after themselves, so that an engine's own
//! durability carries the orchestration.

use crate::{
    context::TaskContext,
    engine::{Engine, WAKE_PARAMETERS},
    registry::{Handler, RegisteredTask},
    signature::SignatureKey,
    task::{Arguments, Json, TaskError, TaskName},
};
use std::sync::Arc;

/// The framework tasks as the adapter of `engine` wants them to run.
pub(crate) fn framework_tasks(engine: &Engine) -> impl Iterator<Item = RegisteredTask> {
    engine.framework_tasks().iter().map(|definition| {
        let name = definition.name.clone();
        let handler: Handler = Arc::new(move |context, arguments| Box::pin(run(name.clone(), context, arguments)));
        RegisteredTask { definition: definition.clone(), handler }
    })
}

async fn run(name: TaskName, context: TaskContext, arguments: Arguments) -> Result<Json, TaskError> {
    let (key, sweep) = {
        let bound = arguments.bind(&name, &WAKE_PARAMETERS)?;
        (bound.take::<SignatureKey>(0)?, bound.take_or(1, || false)?)
    };
    context.engine().wake(&key, sweep).await?;
    Ok(Json::null())
}
