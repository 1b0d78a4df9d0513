"""Priors: what the annotated slices alone say of the rest of the volume."""

import numpy as np
import pytest
import torch

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.priors import geodesic, random_walk
from SparseSegNetLib.engine.priors.interpolation import interpolate, signed_distance
from SparseSegNetLib.engine.priors.maker import PRIOR_NAMES, PriorMaker
from SparseSegNetLib.engine.priors.propagation import Propagation, likeness, register, warp


def ellipsoid(shape=(30, 36, 40)):
    at = np.indices(shape)
    radius = sum(((x - (n - 1) / 2) / (0.4 * n)) ** 2 for x, n in zip(at, shape, strict=True))
    return np.where(radius < 0.3, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)


def working(truth, slices, noise=0.1, spacing=(1.0, 1.0, 1.0)):
    generator = torch.Generator().manual_seed(0)
    image = torch.from_numpy(truth).float()[None]
    image = image + noise * torch.randn(image.shape, generator=generator)
    return WorkingVolume(
        image,
        torch.from_numpy(restrict_to_slices(truth, slices)),
        torch.tensor(spacing),
        truth.shape,
        list(slices),
    )


def iou(found, truth, value=1):
    return metrics.overlap(np.asarray(found), truth, value)[value - 1]["iou"]


class TestInterpolation:
    def test_signed_distance(self):
        mask = np.zeros((9, 9), bool)
        mask[3:6, 3:6] = True
        found = signed_distance(mask, (2.0, 1.0))
        assert found[4, 4] == 2 and found[4, 0] == -3 and found[0, 4] == -6
        assert (signed_distance(mask & False, (1, 1), 7.0) == -7).all()
        assert (signed_distance(mask | True, (1, 1), 7.0) == 7).all()

    def test_agrees_with_every_annotated_slice(self):
        truth = ellipsoid()
        slices = spread_slices((2, 1, 3), truth.shape)
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 3)
        labels = torch.cat((torch.zeros(1, *truth.shape), found)).argmax(dim=0).numpy()
        for item in slices:
            assert (labels[item.selector()] == truth[item.selector()]).mean() > 0.98

    def test_a_smooth_shape_comes_back_from_few_slices(self):
        truth = (ellipsoid() > 0).astype(np.uint8)
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 2)
        assert iou(found[0] > 0, truth) > 0.85

    def test_one_slice_shrinks_away_and_none_says_nothing(self):
        truth = (ellipsoid() > 0).astype(np.uint8)
        item = AnnotatedSlice("k", 15)
        found = interpolate(restrict_to_slices(truth, [item]), [item], (5.0, 1, 1), 2)[0]
        areas = [(plane > 0).sum().item() for plane in found[15:]]
        assert areas == sorted(areas, reverse=True) and areas[0] > 0
        assert (interpolate(truth, [], (1, 1, 1), 2) == -1).all()

    def test_a_structure_ends_between_the_slice_that_shows_it_and_the_one_that_does_not(self):
        truth = np.zeros((21, 20, 20), np.uint8)
        truth[:, 5:15, 5:15] = 1
        truth[10:] = 0
        slices = [AnnotatedSlice("k", 4), AnnotatedSlice("k", 16)]
        found = interpolate(restrict_to_slices(truth, slices), slices, (1, 1, 1), 2)[0] > 0
        filled = found.any(dim=2).any(dim=1)
        assert filled[:9].all() and not filled[12:].any()


class TestPropagation:
    def test_registration_finds_a_shift(self):
        y, x = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")

        def blob(cy, cx):
            return torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 60)[None, None] * 3

        fixed, moving = blob(20, 24), blob(22, 21)
        field = register(fixed, moving)
        assert (warp(moving, field) - fixed).abs().mean() < 0.3 * (moving - fixed).abs().mean()
        assert field[0, 0, 20, 24] == pytest.approx(2, abs=0.7)
        assert field[0, 1, 20, 24] == pytest.approx(-3, abs=0.9)

    def test_follows_a_slanted_tube_that_interpolation_loses(self):
        shape = (32, 48, 48)
        k, j, i = np.indices(shape)
        truth = ((j - 10 - 0.8 * k) ** 2 + (i - 24) ** 2 < 36).astype(np.uint8)
        slices = [AnnotatedSlice("k", 3), AnnotatedSlice("k", 28)]
        volume = working(truth, slices, noise=0.05)
        propagated = Propagation(volume.image, (1, 1, 1), [0]).propagate(volume.labels, slices, 2)
        assert torch.allclose(propagated.sum(dim=0), torch.ones(shape), atol=1e-4)
        straight = interpolate(volume.labels.numpy(), slices, (1, 1, 1), 2)[0] > 0
        assert iou(propagated.argmax(dim=0), truth) > 0.8 > 0.5 > iou(straight, truth)

    def test_the_slice_whose_image_is_alike_counts(self):
        """The object ends between two slices, near to the one that does not show it."""
        truth = np.zeros((20, 24, 24), np.uint8)
        truth[:14, 8:16, 8:16] = 1
        slices = [AnnotatedSlice("k", 2), AnnotatedSlice("k", 16)]
        volume = working(truth, slices, noise=0.0)
        propagated = Propagation(volume.image, (1, 1, 1), [0]).propagate(volume.labels, slices, 2)
        # By the distance alone plane 12, four planes from the empty slice, would be background.
        assert propagated[1, 12, 12, 12] > 0.9
        assert propagated[1, 15, 12, 12] < 0.1

    def test_likeness_of_images(self):
        flat = torch.zeros(1, 2, 5, 6)
        assert (likeness(flat, flat) == 1).all()
        spot = flat.clone()
        spot[:, :, 2, 2] = 3.0
        found = likeness(flat, spot)[0, 0]
        assert (found[1:4, 1:4] < 1e-3).all() and (found > 0).all()
        assert (found[0] == 1).all() and (found[:, 4:] == 1).all()

    def test_annotated_slices_stay_as_they_are(self):
        truth = ellipsoid()
        slices = [AnnotatedSlice("k", 10), AnnotatedSlice("k", 20)]
        volume = working(truth, slices)
        propagated = Propagation(volume.image, (1, 1, 1), [0]).propagate(volume.labels, slices, 3)
        for item in slices:
            assert (
                propagated.argmax(dim=0).numpy()[item.selector()] == truth[item.selector()]
            ).all()

    def test_progress_is_told_and_can_break_off(self):
        def stop(share):
            raise InterruptedError

        with pytest.raises(InterruptedError):
            Propagation(torch.zeros(1, 8, 8, 8), (1, 1, 1), step=stop)


def tortuous():
    """A bright tube that turns back on itself, and where it ends."""
    truth = np.zeros((24, 40, 40), np.uint8)
    truth[10:14, 5:9, 5:35] = 1
    truth[10:14, 5:35, 31:35] = 1
    truth[10:14, 31:35, 5:35] = 1
    return truth


class TestRandomWalk:
    def test_sums_to_one_and_keeps_the_seeds(self):
        truth = ellipsoid()
        slices = spread_slices((1, 1, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        found = random_walk.RandomWalk(volume.image, (1, 1, 1)).probabilities(volume.labels, 3)
        assert torch.allclose(found.sum(dim=0), torch.ones(truth.shape), atol=1e-3)
        known = volume.labels != UNLABELLED
        assert torch.equal(found.argmax(dim=0)[known].to(torch.uint8), volume.labels[known])

    def test_agrees_with_a_direct_solution(self):
        """On a small grid, against the linear system solved exactly."""
        generator = torch.Generator().manual_seed(0)
        image = 0.3 * torch.randn((1, 4, 5, 6), generator=generator)
        labels = torch.full((4, 5, 6), UNLABELLED, dtype=torch.uint8)
        labels[0, 0, 0], labels[3, 4, 5], labels[0, 4, 2] = 0, 1, 2
        walk = random_walk.RandomWalk(image, (2.0, 1.0, 1.0))
        conductances = walk._levels[-1][1]
        count = labels.numel()
        matrix = torch.stack(
            [
                random_walk._flow(unit.view(1, 4, 5, 6), conductances).flatten()
                for unit in torch.eye(count)
            ],
            dim=1,
        )
        free = labels.flatten() == UNLABELLED
        exact = torch.zeros(3, count)
        for c in range(3):
            seeds = (labels.flatten() == c).float()
            exact[c] = seeds
            exact[c, free] = torch.linalg.solve(
                matrix[free][:, free], -matrix[free][:, ~free] @ seeds[~free]
            )
        found = walk.probabilities(labels, 3).flatten(1)
        assert (found - exact).abs().max() < 0.02

    def test_stays_inside_borders(self):
        truth = (ellipsoid() > 0).astype(np.uint8)
        slices = spread_slices((1, 1, 1), truth.shape, truth > 0)
        volume = working(3 * truth, slices)
        labels = torch.from_numpy(restrict_to_slices(truth, slices))
        found = random_walk.RandomWalk(volume.image, (1, 1, 1)).probabilities(labels, 2)
        assert iou(found.argmax(dim=0), truth) > 0.95

    def test_thick_slices_are_not_reduced_before_the_others(self):
        walk = random_walk.RandomWalk(torch.zeros(1, 12, 96, 96), (4.0, 1.0, 1.0))
        assert [level[0] for level in walk._levels] == [
            (8, 12, 12),
            (12, 24, 24),
            (12, 48, 48),
            (12, 96, 96),
        ]

    def test_nothing_labelled(self):
        labels = torch.full((9, 9, 9), UNLABELLED, dtype=torch.uint8)
        found = random_walk.RandomWalk(torch.zeros(1, 9, 9, 9), (1, 1, 1)).probabilities(labels, 3)
        assert torch.isfinite(found).all()


class TestGeodesic:
    def test_follows_a_winding_tube_from_one_slice(self):
        truth = tortuous()
        item = AnnotatedSlice("i", 20)
        volume = working(truth, [item], noise=0.02)
        found = geodesic.probabilities(volume.image, (1, 1, 1), volume.labels, 2)
        assert iou(found.argmax(dim=0), truth) > 0.95
        straight = interpolate(volume.labels.numpy(), [item], (1, 1, 1), 2)[0] > 0
        assert iou(straight, truth) < 0.7

    def test_distances_are_the_shortest_paths(self):
        """Against Dijkstra's algorithm on the same graph of 26 neighbours."""
        from itertools import product

        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import dijkstra

        shape, mm = (5, 6, 7), (2.0, 1.0, 1.0)
        image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        labels = torch.full(shape, UNLABELLED, dtype=torch.uint8)
        labels[2, 3, 3], labels[0, 0, 0] = 1, 0
        number = np.arange(image.size).reshape(shape)
        rows, columns, costs = [], [], []
        for at in np.ndindex(shape):
            for step in product((-1, 0, 1), repeat=3):
                to = tuple(np.add(at, step))
                if step != (0, 0, 0) and all(0 <= t < n for t, n in zip(to, shape, strict=True)):
                    rows.append(number[at])
                    columns.append(number[to])
                    costs.append(
                        abs(image[at] - image[to])
                        + geodesic.LENGTH * np.linalg.norm(np.multiply(step, mm))
                    )
        graph = coo_matrix((costs, (rows, columns)), (image.size,) * 2).tocsr()
        exact = dijkstra(graph, indices=[number[0, 0, 0], number[2, 3, 3]])
        found = geodesic.distances(torch.from_numpy(image)[None], mm, labels, 2).flatten(1).numpy()
        assert (found >= exact - 1e-4).all()
        # A sweep per direction misses few paths; what it misses makes a distance longer.
        assert np.median(found / np.maximum(exact, 1e-6)) < 1.02 and (found - exact).max() < 2.0

    def test_classes_without_labels_are_unlikely(self):
        labels = torch.full((6, 6, 6), UNLABELLED, dtype=torch.uint8)
        labels[3] = 1
        found = geodesic.probabilities(torch.zeros(1, 6, 6, 6), (1, 1, 1), labels, 3)
        assert (found[1] > 0.99).all()


class TestPriors:
    def test_no_time_for_registration_leaves_the_other_ways(self):
        truth = ellipsoid()
        slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        priors = PriorMaker(volume, 3, seconds=0.0)
        assert priors.propagation is None
        found = priors.make(volume.labels, slices)
        assert found.shape == (len(PRIOR_NAMES), 3, *truth.shape)
        assert torch.equal(found[0], found[1])
        assert iou(found[0].argmax(dim=0) > 0, (truth > 0).astype(np.uint8)) > 0.8

    def test_every_way_gives_probabilities(self):
        truth = ellipsoid()
        slices = spread_slices((1, 1, 1), truth.shape, truth > 0)
        volume = working(truth, slices)
        found = PriorMaker(volume, 3).make(volume.labels, slices)
        assert (found >= 0).all() and (found <= 1.001).all()
        assert torch.allclose(found.sum(dim=1), torch.ones(()), atol=1e-3)

    def test_scribbles_count_where_they_can(self):
        truth = ellipsoid()
        slices = spread_slices((0, 0, 2), truth.shape, truth > 0)
        volume = working(truth, slices)
        without = PriorMaker(volume, 3).make(volume.labels, slices)
        volume.labels[1, 2, 3] = 2
        used = PriorMaker(volume, 3).make(volume.labels, slices)
        assert used[3, :, 1, 2, 3].argmax() == 2 != without[3, :, 1, 2, 3].argmax()
        assert torch.equal(used[:2], without[:2]), "they neither interpolate nor propagate"
