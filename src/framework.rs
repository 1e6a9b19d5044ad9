//! L4. The library's own tasks: ordinary tasks by which containers look after themselves, so that an engine's own
//! durability carries the orchestration.

use crate::{
    adapters::FRAMEWORK_TASKS,
    context::TaskContext,
    engine::Engine,
    registry::{Handler, RegisteredTask},
    signature::SignatureKey,
    task::{Arguments, CallShape, Json, TaskDefinition, TaskError, TaskName},
};
use std::sync::Arc;

const PARAMETERS: [&str; 2] = ["key", "sweep"];

/// The framework tasks as the adapter of `engine` wants them to run.
pub(crate) fn framework_tasks(engine: &Engine) -> impl Iterator<Item = RegisteredTask> {
    FRAMEWORK_TASKS.into_iter().map(|name| {
        let names = PARAMETERS.map(str::to_owned).to_vec();
        let mut definition = TaskDefinition::new(name, CallShape::Parameters { names, return_field: None });
        if let Some(options) = engine.framework_options().get(name) {
            definition.options = options.clone();
        }
        let name = definition.name.clone();
        let handler: Handler = Arc::new(move |context, arguments| Box::pin(run(name.clone(), context, arguments)));
        RegisteredTask { definition: Arc::new(definition), handler }
    })
}

async fn run(name: TaskName, context: TaskContext, arguments: Arguments) -> Result<Json, TaskError> {
    let (key, sweep) = {
        let bound = arguments.bind(&name, &PARAMETERS)?;
        (bound.take::<SignatureKey>(0)?, bound.take_or(1, || false)?)
    };
    context.engine().wake(&key, sweep).await?;
    Ok(Json::null())
}
