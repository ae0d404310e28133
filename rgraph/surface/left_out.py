"""Names of CNTK that rgraph leaves out, and differences: for the page `docs/from-cntk.md`.

`tests/test_surface.py` checks these tables: a name that is missing from both the package and the
tables fails the test, and so does a name that is listed here but works.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..graph import GraphError

# Names, and members of classes as `Class.member`, by the reason for leaving them out.
LEFT_OUT: dict[str, str] = {
    "it runs C++ libraries that were compiled against CNTK": """
        native_user_function register_native_user_function custom_proxy_op
    """,
    "it reads speech lattices, which CNTK itself supports on GPUs only": """
        lattice_sequence_with_softmax LatticeDeserializer
    """,
    "it is part of CNTK's installation, not of its interface": """
        cntk_library_path contrib install_samples sample_installer
    """,
    "it connects Python to CNTK's C++ library, which rgraph does not contain": """
        cntk_py_init VariableMixin ArrayMixin
        sanitize_Function_attributes sanitize_convolution_args sanitize_pooling_args
        sanitize_var_map sanitize_variable_value_dict sanitize_random_args
        associative_multi_arg bounded_cache is_byte_buffer is_string map_function_arguments
        get_python_function_arguments DictionaryValue DictionaryValueFromDict
        DictionaryValueFromNDArrayView UntestedBranchError NDShape SequenceOverMeta
    """,
    "the trainer sums the results of its workers, and communicates in no other way": """
        .on_write_distributed_sync_update
        Communicator.aggregate Communicator.aggregate_in_place Communicator.concatenate
        Communicator.all_reduce_sparse_block_column Communicator.gather Communicator.sub_group
        DistributedLearner.do_aggregate_metrics_if_needed DistributedLearner.get_communicator
        DistributedLearner.is_metric_aggregator DistributedLearner.minibatch_size_scale_factor
        DistributedLearner.parallelization_after DistributedLearner.set_as_metric_aggregator
    """,
    "CNTK's Python exposes it from C++ without documenting it; there is another way to do it": """
        .as_string .current_version .add_progress_writers .ignored_minibatch_size
        .set_need_to_update_master_parameter .get_data_type
        .get_storage_format .current_value_time_stamp .record_value_update .is_initialized
        .get_value .has_batch_axis .has_sequence_axis .kind .clone_as .as_constant .as_parameter
        .test_minibatch_overload_for_minibatchdata .train_minibatch_overload_for_minibatchdata
        .total_number_of_units_seen .m_global_rank .m_host_id .operand_sequence_axis
        Constant.scalar NDArrayView.alias NDArrayView.change_device NDArrayView.copy_from
        NDArrayView.deep_clone NDArrayView.is_slice_view NDArrayView.random_uniform_double
        NDArrayView.random_uniform_float NDArrayView.set_value NDArrayView.to_ndarray
        UserDeserializer.get_sequence_info UserDeserializer.sequence_infos_for_chunk
        Value.alias Value.copy_from Value.copy_variable_value_to
        Value.copy_variable_value_to_double Value.copy_variable_value_to_float
        Value.create_batch_double Value.create_batch_float Value.create_dense_double
        Value.create_dense_float Value.create_one_hot_double Value.create_one_hot_float
        Value.create_sequence_double Value.create_sequence_float Value.erase
        Value.masked_count Value.one_hot_skip Value.unpack_variable_value
        DeviceDescriptor.all_devices DeviceDescriptor.cpu_device DeviceDescriptor.gpu_device
        DeviceDescriptor.get_gpu_properties DeviceDescriptor.set_excluded_devices
        DeviceDescriptor.try_set_default_device DeviceDescriptor.use_default_device
        .argument_map .clone_flattened .declare_args .deserialize_method_name .evaluate
        .get_custom_attributes .load_from_buffer .max_num_outputs .module_name
        .native_user_function .register_native_user_function .reset_custom_attributes
        .set_name .set_native Function.serialize
        Function.type Function.restore_from_checkpoint UserFunction.type
        UserFunction.restore_from_checkpoint
        TrainingSession.get_minibatch_size TrainingSession.on_checkpoint_end
        TrainingSession.on_checkpoint_start TrainingSession.on_cross_validation_end
        TrainingSession.on_cross_validation_start TrainingSession.on_minibatch_end
        TrainingSession.on_minibatch_start TrainingSession.restore_from_checkpoint
    """,
    "it is deprecated in CNTK itself": """
        ProgressPrinter.reset_start ProgressPrinter.reset_last ProgressPrinter.end_progress_print
    """,
    "it writes the format of CNTK 1, which nothing reads anymore": """
        save_as_legacy_model
    """,
    "it is a helper of CNTK's own tests, or a list for its documentation": """
        internal.utils.eval AVAILABLE_TENSOR_OPS DEBUG_USAGE
    """,
    "use clone to replace the functions that find_all_with_name finds": """
        convert
    """,
}

# Declarations that differ from CNTK 2.7, and how.
DECLARED: dict[str, str] = {
    "Convolution1D": "takes groups before the name, as Convolution2D does",
    "Variable": "variables are made by input_variable, placeholder, Parameter and Constant",
    **dict.fromkeys(
        ("Tensor", "SparseTensor", "ParameterTensor", "Sequence", "SequenceOver"),
        "an object that is used like CNTK's class: Tensor[3], Sequence[Tensor[3]]",
    ),
    "UserLearner.update": "gets its arguments by position, in CNTK's order",
    "UserFunction.clone": "works as for every function; a user's class need not define it",
    "UserFunction.backward": "as_numpy is given when the function is created",
    "DistributedLearner.total_number_of_samples_seen": "a method, as for every learner",
}

# Same declaration as in CNTK 2.7, different behaviour.
BEHAVES: dict[str, str] = {
    "cross_entropy_with_softmax": "for operands of shape (4, 3) the result is (4, 1), along the "
    "last axis; CNTK multiplies them into a meaningless (4, 4) unless axis=1 is given",
    "classification_error": "like cross_entropy_with_softmax: (4, 1) for operands (4, 3)",
    "placeholder": "with a shape it stands for values whose last axes have that shape; CNTK puts "
    "any in its place",
    "Function": "an input takes values of exactly its shape; CNTK allows additional leading axes, "
    "which shifts the axes that operations refer to; `if f:` is an error, except in programs "
    "started by `python -m rgraph run`, where it is true, as in CNTK",
    "Parameter": "an array given as init is broadcast to the given shape, and refused if that is "
    "impossible; CNTK uses the array's shape instead",
    "forward_backward": "refuses sequences that are too short for their labels, where CNTK returns "
    "1e11 and a meaningless gradient; delayConstraint does not apply to the blank after the last "
    "label",
    "optimized_rnnstack": "runs on CPUs, too",
    "ModelFormat": "CNTKv2 means rgraph's own format, which CNTK cannot read",
    "set_global_option": "stores any option for the program; rgraph itself uses align_axis, and "
    "on_nan and values_are_true, which CNTK does not have",
    "get_data_type": "returns NumPy types, as do cntk_py.DataType_Float and the like",
    "sanitize_axis": "counts static axes from the front, as in Python; CNTK counts from the back",
    "data_parallel_distributed_learner": "sends gradients in full precision, whatever "
    "num_quantization_bits says; at distributed_after all workers take over rank 0's state",
    "block_momentum_distributed_learner": "a block ends by the number of samples of all workers "
    "together; in CNTK by those of one worker. Blocks begin at distributed_after; CNTK's first "
    "block undoes some of what was learned before. Losses and metrics cover all workers",
}


class Refused:
    """Placeholder for a name that is left out, so that programs that only import it run."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    def _refuse(self) -> NoReturn:
        raise GraphError(f"{self._name} is left out: {self._reason}")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises `GraphError` with the reason."""
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        """Nothing can be derived from it."""
        self._refuse()

    def __repr__(self) -> str:
        return f"<{self._name}, which is left out: {self._reason}>"


def reason_for(name: str) -> str:
    """The reason why a name is left out, or "" if it is not."""
    return next((why for why, names in LEFT_OUT.items() if name in names.split()), "")
