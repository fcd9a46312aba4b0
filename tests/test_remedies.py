"""Every remedy that an error names is carried out by a test; those that are no other file's stand here."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax import losses
from capsjax.bench.routing import RoutingSizes, routing_work
from capsjax.checks import UserError
from capsjax.gradients import StopGradient
from capsjax.memory import room
from capsjax.routing import SelfRouting
from capsjax.runs import description, directory
from capsjax.training import checkpoints
from capsjax.training.state import TrainState
from tests.advice_texts import remedies

TESTS = Path(__file__).parent
REMEDIES = remedies(Path(cj.__file__).parent)

FITTED = "runs/test_estimator.py::test_data_that_say_what_no_array_has_are_refused_with_advice_that_works"
# How a remedy begins, and the test that carries it out.
CARRIED_OUT = {
    "lower {}": "test_remedies.py::test_work_that_does_not_fit_is_timed_with_less",
    "lower {}, and train anew": "runs/test_memory.py::test_what_an_allocation_that_failed_says_to_lower",
    "choose smaller sizes": "memory/test_room.py::test_an_allocation_that_failed_is_told_in_two_lines",
    "choose smaller images": "runs/test_memory.py::test_where_nothing_fits_smaller_images_are_named",
    "choose a smaller size of what augment": "runs/test_memory.py::"
    "test_a_smaller_part_is_advised_where_the_size_of_images_makes_no_difference",
    "set {} to grain, which fits": "runs/test_feeds.py::"
    "test_images_that_do_not_fit_at_once_come_part_by_part",
    "or set training.feed to device": "runs/test_feeds.py::"
    "test_what_cannot_be_streamed_is_refused_before_anything_is_made",
    "set training.feed to device": "runs/test_feeds.py::"
    "test_what_cannot_be_streamed_is_refused_before_anything_is_made",
    "set {} to {}, which fits": "runs/test_memory.py::test_what_is_said_to_fit_fits",
    "set {} to {}": "runs/test_memory.py::test_what_is_said_to_fit_fits",
    "set data.canvas to": "runs/test_memory.py::"
    "test_a_smaller_canvas_is_advised_where_images_are_put_on_one",
    "set {} to {} instead": "test_advice.py::test_training_that_is_not_finite_ends_by_what_the_error_says",
    "set {}.tolerance to": "runs/test_experiment.py::"
    "test_where_routing_does_not_arrive_what_to_change_is_said",
    "choose a smaller learning rate": "test_advice.py::"
    "test_training_that_is_not_finite_ends_by_what_the_error_says",
    "time what has one with": "test_advice.py::test_a_fixed_point_is_timed_by_what_the_error_says",
    "for a derivative": "test_traced_numbers.py::test_differences_and_an_array_give_the_same_derivative",
    "Start again with:": "test_advice.py::test_what_is_interrupted_early_is_started_again",
    "Make room": "cli/test_cli.py::test_a_full_disk_is_said_in_a_line_and_spoils_nothing",
    "choose a smaller kernel": "test_followed.py::test_a_kernel_that_is_no_larger",
    "choose kernel {}": "data/test_trainable.py::"
    "test_a_kernel_larger_than_the_image_can_be_made_to_fit_as_the_error_says",
    "choose {}": "layers/test_model.py::test_advice_on_a_kernel_works_to_the_letter",
    "choose a smaller batch": "data/test_trainable.py::"
    "test_a_batch_larger_than_the_data_can_be_made_to_fit_as_the_error_says",
    "choose another number of groups": "test_followed.py::test_groups_that_divide_the_channels",
    "delete it, and the report leaves it out": "study/test_observation.py::"
    "test_a_table_that_is_damaged_is_named",
    "leave out data sets without one": "study/test_statistics.py::"
    "test_the_mean_over_data_sets_by_its_definition",
    "name the splits": "data/test_remedies.py::test_advice_about_too_few_examples",
    "set data.kind or data.path": "test_followed.py::test_arrays_without_a_file",
    "give images of the size that was fitted": "runs/test_estimator.py::"
    "test_channels_on_the_other_side_are_told_with_what_turns_them",
    "bring all images to one size": "data/test_arrays.py",
    "bring all images to that size": "runs/test_experiment.py::test_images_of_the_run_s_size_are_measured",
    "put them in the middle of black ones": "runs/test_derived_data.py::"
    "test_smaller_images_are_put_on_a_canvas_as_the_error_says",
    "bring them to the unit": "data/test_pixels.py::"
    "test_what_cannot_be_told_is_refused_and_the_advice_is_right",
    "bring them to real numbers": "test_followed.py::test_complex_images_become_real",
    "use {} where {} is white": "data/test_pixels.py::"
    "test_what_cannot_be_told_is_refused_and_the_advice_is_right",
    "use images * {}": "data/test_pixels.py::test_what_cannot_be_told_is_refused_and_the_advice_is_right",
    "use images / 255": "test_units.py::test_the_advice_of_a_network_loses_nothing",
    "use images.astype": "data/test_pixels.py::"
    "test_a_type_that_is_not_taken_comes_with_advice_that_loses_nothing",
    "divide them by their largest": "data/test_pixels.py::"
    "test_a_range_that_is_not_taken_comes_with_advice_that_loses_nothing",
    "number the classes from 0: {}": "data/test_remedies.py::test_advice_about_labels",
    "from a column take labels": "data/test_remedies.py::test_advice_about_labels",
    "use labels.astype(np.int32)": "data/test_remedies.py::test_advice_about_labels",
    "leave such examples out": "test_followed.py::test_labels_that_are_nan_are_left_out",
    "from one-hot labels take": "losses/test_labels.py::test_advice_on_class_numbers_is_right",
    "where the data show one class": "test_followed.py::test_data_of_a_single_class",
    "bring the bytes to floats": "data/test_remedies.py::test_advice_about_splits_of_two_types",
    "make room or grant access": "data/test_mnist.py::test_advice_about_files_works_as_it_is_given",
    "try again later": "data/test_mnist.py::test_advice_about_files_works_as_it_is_given",
    "delete this file": "data/test_mnist.py::test_advice_about_files_works_as_it_is_given",
    "put the published file": "data/test_mnist.py::test_advice_about_files_works_as_it_is_given",
    "save an array of one shape": "data/test_npz.py::"
    "test_the_remedy_for_objects_brings_the_same_numbers_and_names",
    "in MATLAB, load(FILE)": "data/test_labels.py::"
    "test_a_file_of_matlab_of_version_4_is_saved_anew",
    "copy it again": "data/test_labels.py::test_a_truncated_file_of_matlab_is_called_that",
    "or leave them as they are": "data/test_remedies.py::test_the_range_that_is_advised_is_taken",
    "repair them, or keep": "data/test_remedies.py::test_advice_about_pixels_that_are_not_finite",
    "keep = np.isfinite": "data/test_remedies.py::test_advice_about_pixels_that_are_not_finite",
    "divide them by the value": "data/test_remedies.py::test_advice_about_images",
    "if the images are that flat": "test_followed.py::test_flat_images_are_laid_on_their_side",
    "add examples of": "test_remedies.py::test_a_class_that_is_not_trained_is_left_out",
    "for jax.hessian": "test_followed.py::test_a_second_derivative_by_the_full_gradient",
    "for forward mode route": "routing/test_transformations.py::"
    "test_what_lacks_it_says_so_and_the_way_out_works",
    "leave pooling out": "test_followed.py::test_a_backbone_without_pooling",
    "put it before the capsules": "test_followed.py::test_layers_in_an_order_that_fits",
    "put a layer of kind primary": "test_followed.py::test_layers_in_an_order_that_fits",
    "or let the last layer": "test_followed.py::test_a_head_that_fits_the_classes",
    "of whole numbers take": "losses/test_labels.py::test_advice_on_class_numbers_is_right",
    "number the classes from 0, or give": "test_remedies.py::test_labels_out_of_range_of_a_loss",
    "of a column take": "losses/test_labels.py::test_advice_on_class_numbers_is_right",
    "give it as params=": "test_remedies.py::test_a_parameter_that_is_missing_is_given",
    "number the classes as the run": "runs/test_experiment.py::test_classes_of_the_run_are_measured",
    "leave out what the run was not": "runs/test_experiment.py::test_classes_of_the_run_are_measured",
    "run the comparison again": "runs/test_foreign_files.py",
    "leave it out": "test_advice.py::test_a_run_that_stopped_is_resumed_by_what_its_errors_say",
    "resume the comparison:": "runs/test_resume_advice.py",
    "resume with": "study/test_resumed_comparison.py",
    "Resume with": "test_signals.py",
    "Resume it with": "study/test_resumed_comparison.py",
    "resume it": "test_advice.py::test_a_run_that_stopped_is_resumed_by_what_its_errors_say",
    "start again:": "runs/test_resume_advice.py::test_training_anew_begins_with_the_same_run_and_file",
    "take the model of that run": "test_followed.py::test_a_donor_s_own_network_fits",
    "wait until it ends": "runs/test_lock.py::test_a_second_is_refused_until_the_first_is_killed",
    "train anew:": "test_advice.py::test_a_run_whose_checkpoint_holds_nan_is_trained_anew",
    "move this run away": "study/test_resumed_comparison.py",
    "move it away": "test_followed.py::test_a_file_in_the_place_of_a_checkpoint_is_moved_away",
    "resume the {}:": "study/test_resumed_comparison.py",
    "leave out the argument data": "test_followed.py::test_arms_with_data_of_their_own",
    "set {}.kind to {}": "study/test_design.py::"
    "test_a_routing_without_iterations_is_told_which_kinds_have_them",
    "set training.epochs or": "test_advice.py::test_a_configuration_works_by_what_its_error_says",
    "train longer, or set": "test_advice.py::test_a_configuration_works_by_what_its_error_says",
    "put it into a module": "study/test_pool.py::test_jobs_are_refused_where_processes_cannot_do_them",
    "delete it, and evaluate the run again": "runs/test_predictions.py::"
    "test_a_damaged_file_is_named_and_evaluated_anew",
    "take them from how often": "losses/test_class_weights.py::"
    "test_balanced_by_itself_says_where_weights_come_from",
    "of features take config='vectors', of flat images": "runs/test_estimator.py::"
    "test_the_advice_on_forms_works",
    "train the run again": "test_remedies.py::test_a_run_whose_record_is_damaged_is_trained_again",
    "train the run first": "test_remedies.py::test_a_run_whose_record_is_damaged_is_trained_again",
    "train again": "runs/test_damage.py::test_where_every_checkpoint_is_damaged_a_run_starts_anew",
    "use another step": "test_followed.py::test_another_checkpoint_is_read",
    "set {} before anything": "test_remedies.py::test_a_checkpoint_of_twice_the_bits_is_read_as_said",
    "leave dropout out": "test_followed.py::test_dropout_without_a_generator",
    "pass at most {} at a time": "runs/test_batches.py::"
    "test_a_batch_that_does_not_fit_is_refused_and_fewer_at_a_time_pass",
    "train a smaller network": "runs/test_batches.py::"
    "test_a_batch_that_does_not_fit_is_refused_and_fewer_at_a_time_pass",
    "route inside": "test_followed.py::test_votes_are_routed_where_they_are_made",
    "for votes that enter it": "test_votes.py::test_votes_may_enter",
    "put them into folders": "data/test_bad_pictures.py",
    "put the pictures of each": "data/test_bad_pictures.py",
    "give each class a folder": "data/test_bad_pictures.py",
    "rename those that": "data/test_bad_pictures.py",
    "give more": "data/test_remedies.py::test_advice_about_too_few_examples",
    "save it as PNG": "data/test_bad_pictures.py",
    "set data.label_column": "data/test_tables.py::test_what_the_errors_of_a_table_say_works",
    "set data.stratified to false": "data/test_tables.py::test_what_the_errors_of_a_table_say_works",
    "take it out of the file where": "data/test_tables.py::"
    "test_another_column_without_a_name_is_given_one",
    "rename all but one": "data/test_tables.py::test_columns_of_one_name_are_renamed",
    "write all numbers with one": "data/test_tables.py::"
    "test_commas_that_may_be_something_else_are_refused",
    "take the row out of the file": "runs/test_classify_files.py::"
    "test_rows_of_a_table_with_and_without_labels",
    "leave the column out": "data/test_tables.py::test_what_the_errors_of_a_table_say_works",
    "set data.file_column": "data/test_tables.py::test_what_the_errors_of_a_list_say_works",
    "name them in a column split": "data/test_tables.py::test_a_list_may_say_splits_and_groups",
    "or let the layer before": "layers/test_conv_capsules.py::"
    "test_both_ways_out_of_poses_that_are_no_matrices_fit",
    "set model.decoder to null": "data/test_labels.py::"
    "test_standardised_data_want_a_decoder_without_a_sigmoid",
    "or save it in MATLAB with -v7": "data/test_labels.py::test_files_of_matlab",
    "set data.keys to null": "data/test_labels.py::"
    "test_single_arrays_have_their_labels_beside_them",
    "set data.labels_path to null": "data/test_labels.py::"
    "test_labels_beside_a_file_that_has_its_own_are_refused",
    "give the range that they have": "data/test_perturbed.py::test_what_does_not_fit_is_refused",
    "set data.kind to overlapping": "data/test_overlapping.py::test_changes_come_before_images_meet",
    "set data.range": "data/test_folder.py::test_a_range_brings_black_and_white_to_0_and_1",
    "start again once they do": "data/test_bad_pictures.py",
    "set data.size to less": "data/test_bad_pictures.py",
    "move it before standardise": "data/test_preparing.py::test_nothing_moves_after_standardising",
    "set crops to 1": "data/test_preparing.py::test_thirteen_parts_are_averaged",
    "set data to 'arrays', and leave out metrics": "runs/test_estimator.py::"
    "test_a_configuration_with_metrics_of_two_labels_learns_one_without_them",
    "set data.size to None": FITTED,
    "set data.channels to None": FITTED,
    "set data.num_classes to None": FITTED,
    "leave {} out": FITTED,
    "pass np.moveaxis(X, {}, 0), and set data.axes": FITTED,
}


def test_every_remedy_is_carried_out_by_a_test():
    for remedy, file in REMEDIES.items():
        found = [begin for begin in CARRIED_OUT if remedy.startswith(begin)]
        assert found, f"{file}: no test carries out: {remedy}"
    for begin, place in CARRIED_OUT.items():
        assert any(remedy.startswith(begin) for remedy in REMEDIES), f"no error says: {begin}"
        path, _, name = place.partition("::")
        tree = ast.parse((TESTS / path).read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in names, place


def test_remedies_are_found_by_their_verbs(tmp_path):
    (tmp_path / "a.py").write_text(
        '"""It was bad; use this."""\nraise E(f"got {x}, "\n "expected y; for z use {y}; lower it")\n'
    )
    assert set(remedies(tmp_path)) == {"for z use {y}", "lower it"}


def test_work_that_does_not_fit_is_timed_with_less(monkeypatch):
    large = RoutingSizes(batch=64, children=8, parents=2, in_dim=2, out_dim=2)
    small = RoutingSizes(batch=1, children=8, parents=2, in_dim=2, out_dim=2)
    monkeypatch.setattr(room, "available", lambda: 10_000.0)
    with pytest.raises(UserError, match="; lower the batch size") as caught:
        routing_work(large, gradient=StopGradient())
    assert "  the largest array is f32[" in str(caught.value)
    routing_work(small, gradient=StopGradient())


def test_a_class_that_is_not_trained_is_left_out():
    images, labels = np.zeros((9, 4, 4, 1), np.uint8), np.arange(9) % 3
    images[::2] = 255
    train_labels = np.where(labels == 2, 0, labels)
    data = {"train": (images, train_labels), "validation": (images, train_labels)}
    with pytest.raises(UserError, match="of which train has no example") as caught:
        _begin(data | {"test": (images, labels)})
    names = {"np": np, "images": images, "labels": labels, "train_labels": train_labels}
    exec(re.search(r"keep = .*?(?=;)", str(caught.value))[0], names)
    _begin(data | {"test": eval("(images[keep], labels[keep])", names)})


def _begin(data):
    from capsjax.data.trainable import check_classes

    check_classes(cj.load_config("smoke", {"data": "arrays"}).data.build(data), data)


def test_labels_out_of_range_of_a_loss():
    lengths = jnp.full((2, 3), 0.5)
    with pytest.raises(UserError, match="number the classes from 0, or give the network as many"):
        losses.margin_loss(lengths, jnp.array([1, 3]))
    losses.margin_loss(lengths, jnp.array([1, 3]) - 1)
    losses.margin_loss(jnp.full((2, 4), 0.5), jnp.array([1, 3]))


def test_a_parameter_that_is_missing_is_given():
    votes = cj.DenseVotes(jnp.ones((2, 3, 2, 4)))
    takes = {"poses": jnp.ones((2, 3, 4)), "activation": jnp.ones((2, 3))}
    params = {}
    for _ in range(2):
        with pytest.raises(UserError, match="give it as params=") as caught:
            SelfRouting()(votes, **takes, params=params)
        name = re.search(r"params=\{'(\w+)': ", str(caught.value))[1]
        shape = ast.literal_eval(re.search(r"an array (\[.*?\])", str(caught.value))[1])
        params |= {name: jnp.zeros(shape)}
    assert SelfRouting()(votes, **takes, params=params).pose.shape == (2, 2, 4)


def test_a_checkpoint_of_twice_the_bits_is_read_as_said(tmp_path):
    def state():
        return TrainState(jnp.zeros((), jnp.int32), {"w": jnp.zeros(3, float)}, ())

    try:
        jax.config.update("jax_enable_x64", True)
        checkpoints.save(tmp_path, state())
        jax.config.update("jax_enable_x64", False)
        with pytest.raises(UserError, match=r"set jax\.config\.update") as caught:
            checkpoints.restore(tmp_path, state())
        exec(re.search(r"jax\.config\.update\(.*?\)", str(caught.value))[0], {"jax": jax})
        assert checkpoints.restore(tmp_path, state()).params["w"].dtype == jnp.float64
    finally:
        jax.config.update("jax_enable_x64", False)


def test_a_run_whose_record_is_damaged_is_trained_again(tmp_path):
    config = cj.load_config("smoke", {"training.epochs": None, "training.steps": 1})
    (tmp_path / "old").mkdir()
    directory.write_config(tmp_path / "old", config)
    record = tmp_path / "old" / "environment.json"
    dataset = config.data.load()
    directory.write_json(record, description.describe(config, dataset) | {"data": {"name": 1}})
    with pytest.raises(UserError, match="train the run again"):
        cj.load(tmp_path / "old")
    directory.write_json(record, description.describe(config, dataset))
    with pytest.raises(UserError, match="train the run first"):
        cj.load(tmp_path / "old")
    run = cj.train(tmp_path / "old" / "config.yaml", out=tmp_path / "new")
    assert cj.load(run.folder).test["step"] == 1
