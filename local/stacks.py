"""What CloudFormation does here differently from moto's, each with its reason.

- CloudFormation: AWS::Lambda::* resources are our own Lambda's. moto drops EphemeralStorage, Architectures, Layers,
  Tags and LoggingConfig, replaces a function that it should update, and does not know Alias and EventInvokeConfig.
- CloudFormation: a resource that fails makes a stack that is rolled back and says why. moto answers 500, and half of
  the stack stays.
- CloudFormation's parameters: after a change set moto keeps the stack's old parameters and outputs, so that the next
  one is never empty; it shows a list as Python does, cannot use it again, and does not split its default; and it does
  not see that a parameter has its default again.
- CloudFormation's parameters must have values: moto makes the text "None" of one that has none.
- CloudFormation's conditions: moto's update trips over a resource whose condition is false.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local.lambda_api import LambdaApi


def mend_cloudformation(api: LambdaApi) -> None:
    """Let CloudFormation make, change and delete functions through our own Lambda."""
    from moto.cloudformation import parsing

    from local import lambda_resources, stack_resources

    stack_resources.connect(api.world.account, api)
    ours = {resource.cloudformation_type(): resource for resource in lambda_resources.RESOURCES}
    models = parsing.get_model_list()
    models[:] = [model for model in models if model.cloudformation_type() not in ours]
    models.extend(ours.values())
    parsing.get_model_map().update(ours)
    parsing.get_name_type_map().update({name: model.cloudformation_name_type() for name, model in ours.items()})
    mend_stacks()


def mend_stacks() -> None:
    """Let stacks fail as CloudFormation's do, and remember what a change set changed."""
    models: Any = importlib.import_module("moto.cloudformation.models")
    stack_class, backend_class = models.Stack, models.CloudFormationBackend

    if hasattr(stack_class, "mended"):  # the classes are the process's; a second server finds them mended
        return
    stack_class.mended = True
    create, update, execute = stack_class.create_resources, stack_class.update, backend_class.execute_change_set

    def create_resources(self: Any) -> None:
        with rolled_back(self, new=True):
            create(self)

    def update_stack(self: Any, *arguments: Any, **keywords: Any) -> None:
        with rolled_back(self, new=False):
            update(self, *arguments, **keywords)

    def execute_change_set(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        wanted = [c for c in self.change_sets.values() if change_set_name in (c.change_set_id, c.change_set_name)]
        stack = wanted[-1].stack
        with rolled_back(stack, new=wanted[-1].change_set_type == "CREATE"):
            execute(self, change_set_name, stack_name)
            stack._parse_template()
            stack.parameters = wanted[-1].parameters
            stack.output_map = stack._create_output_map()

    stack_class.create_resources = create_resources
    stack_class.update = update_stack
    backend_class.execute_change_set = execute_change_set
    mend_conditions()
    mend_parameters()
    require_parameters(backend_class, "create_change_set")
    require_parameters(backend_class, "create_stack")


def require_parameters(backend_class: Any, operation: str) -> None:
    """Let an operation refuse a template of whose parameters one has neither a value nor a default."""
    exceptions: Any = importlib.import_module("moto.cloudformation.exceptions")
    stack_class: Any = importlib.import_module("moto.cloudformation.models").Stack
    carry_out = getattr(backend_class, operation)

    def check_first(self: Any, *arguments: Any, template: str, parameters: dict[str, str], **keywords: Any) -> Any:
        slots = stack_class.parse_template(template).get("Parameters") or {}
        missing = [name for name, slot in slots.items() if "Default" not in slot and name not in parameters]
        if missing:
            raise exceptions.ValidationError(message=f"Parameters: [{', '.join(missing)}] must have values")
        return carry_out(self, *arguments, template=template, parameters=parameters, **keywords)

    setattr(backend_class, operation, check_first)


def mend_conditions() -> None:
    """Let a condition decide about a resource in an update, too."""
    parsing: Any = importlib.import_module("moto.cloudformation.parsing")
    stack_class = importlib.import_module("moto.cloudformation.models").Stack

    change, update = parsing.parse_and_update_resource, parsing.ResourceMap.update

    def exists(resources: Any, name: str) -> bool:
        """Say whether a resource was made; moto keeps None for one whose condition was false."""
        if resources._parsed_resources.get(name) is None:
            resources._parsed_resources.pop(name, None)
            return False
        return True

    def wanted(resources: Any, name: str) -> bool:
        condition = resources._resource_json_map[name].get("Condition")
        return not condition or bool(resources.lazy_condition_map[condition])

    def change_if_there(logical_id: str, resource_json: Any, resources_map: Any, *rest: Any, **keywords: Any) -> Any:
        if not exists(resources_map, logical_id):
            return resources_map[logical_id]  # which makes it, if it is wanted
        if not wanted(resources_map, logical_id):
            return resources_map._parsed_resources[logical_id]
        return change(logical_id, resource_json, resources_map, *rest, **keywords)

    def update_all(self: Any, template: Any, parameters: Any = None) -> None:
        # All of them, before and after: moto does not see that one has its default again.
        self.input_parameters = texts(self.resolved_parameters)
        update(self, template, all_parameters(template, parameters or {}))
        for name, resource_json in self._resource_json_map.items():
            there = exists(self, name)
            if there and not wanted(self, name):
                self._delete_resource(self._parsed_resources.pop(name), resource_json)
            elif not there and wanted(self, name):
                _ = self[name]

    parsing.parse_and_update_resource = change_if_there
    parsing.ResourceMap.update = update_all
    stack_class.stack_resources = property(
        lambda self: [resource for resource in self.resource_map.values() if resource is not None]
    )


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as they are written."""
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in values.items()}


def all_parameters(template: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Return all parameters of a template, as they are written: the given ones, and the defaults."""
    slots = template.get("Parameters", {})
    return texts({name: slot["Default"] for name, slot in slots.items() if "Default" in slot} | dict(given))


def mend_parameters() -> None:
    """Let a stack's parameters be text, as they were given: then the same ones are no change, and can be used again."""
    stack_class: Any = importlib.import_module("moto.cloudformation.models").Stack
    exceptions: Any = importlib.import_module("moto.cloudformation.exceptions")
    resource_map_class: Any = importlib.import_module("moto.cloudformation.parsing").ResourceMap
    response_class: Any = importlib.import_module("moto.cloudformation.responses").CloudFormationResponse

    load_parameters = resource_map_class.load_parameters

    def load_and_split(self: Any) -> None:
        load_parameters(self)
        for name, slot in self._template.get("Parameters", {}).items():
            value = self.resolved_parameters[name]
            if slot["Type"] in ("CommaDelimitedList", "List<String>") and isinstance(value, str):
                self._parsed_resources[name] = self.resolved_parameters[name] = value.split(",")

    def refuse_same_update(self: Any, incoming: Any, body: str, stack: Any) -> None:
        before = stack.stack_parameters
        given = {p["ParameterKey"]: p.get("ParameterValue", before.get(p["ParameterKey"])) for p in incoming or ()}
        same = stack.has_template(body) and stack.has_parameters(given)
        if same and self._get_action() != "CreateChangeSet":  # which makes an empty change set instead
            raise exceptions.ValidationError(stack.name, message="No updates are to be performed.")

    def has_parameters(self: Any, other: Mapping[str, Any]) -> bool:
        return all_parameters(self.template_dict, other) == texts(self.stack_parameters)

    def parameter_list(self: Any) -> list[dict[str, str]]:
        hidden = self.resource_map.no_echo_parameter_keys
        return [
            {"ParameterKey": name, "ParameterValue": "****" if name in hidden else value}
            for name, value in self.stack_parameters.items()
        ]

    stack_class.stack_parameters = property(lambda self: texts(self.resource_map.resolved_parameters))
    stack_class.has_parameters = has_parameters
    resource_map_class.load_parameters = load_and_split
    response_class._validate_different_update = refuse_same_update
    stack_class.parameter_list = property(parameter_list)


@contextmanager
def rolled_back(stack: Any, *, new: bool) -> Iterator[None]:
    """Undo what was done to a stack when one of its resources fails; its status and events say why."""
    from moto.core.exceptions import ServiceException

    from local.stack_resources import ResourceFailed

    resources = stack.resource_map
    before = copy.deepcopy((stack.template, stack.template_dict, stack.parameters))
    values = texts(resources.resolved_parameters)
    try:
        yield
    except (ResourceFailed, ServiceException) as error:
        status = "ROLLBACK" if new else "UPDATE_ROLLBACK"
        if isinstance(error, ResourceFailed):
            add_event(stack, error.logical_id, error.kind, error.status, str(error))
        stack._add_stack_event(f"{status}_IN_PROGRESS", f"The following resource(s) failed: {error}")
        if new:
            resources.delete()
        else:
            stack.template, stack.template_dict, stack.parameters = before
            resources.update(stack.template_dict, values)
        stack._add_stack_event(f"{status}_COMPLETE")
        stack.status = f"{status}_COMPLETE"


def add_event(stack: Any, logical_id: str, kind: str, status: str, reason: str) -> None:
    """Add a resource's event to a stack's."""
    from moto.cloudformation.models import Event

    stack.events.append(Event(stack.stack_id, stack.name, logical_id, "", kind, status, reason, None))
