"""Procedural meshes: surfaces of revolution and star prisms, as (vertices (N, 3) in metres, faces (M, 3))."""

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]


def lathe(profile: list[tuple[float, float]], segments: int = 20) -> Mesh:
    """Revolve a closed profile of (radius, height) pairs, in metres, about z.

    The profile runs counter-clockwise in the (radius, height) half plane, so that the faces look outward; it
    is closed from its last point to its first. Points on the axis (radius 0) collapse into one vertex.
    """
    rings: list[np.ndarray] = []
    vertices: list[np.ndarray] = []
    angles = np.arange(segments) * (2 * np.pi / segments)
    for radius, height in profile:
        count = 1 if radius == 0 else segments
        rings.append(len(vertices) + np.arange(count).repeat(segments // count))
        turn = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:count]
        vertices.extend(np.append(radius * xy, height) for xy in turn)
    faces = []
    for ring, following in zip(rings, rings[1:] + rings[:1], strict=True):
        for k in range(segments):
            n = (k + 1) % segments
            quad = [ring[k], ring[n], following[n], following[k]]
            faces += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
    return np.array(vertices), np.array([f for f in faces if len(set(f)) == 3])


def torus(radius: float, tube: float, segments: int = 24) -> Mesh:
    """A ring lying flat: centre-line radius and tube radius in metres."""
    angles = np.arange(10) * (2 * np.pi / 10)
    return lathe([(radius + tube * np.cos(a), tube * np.sin(a)) for a in angles], segments)


def star(outer: float, inner: float, height: float, points: int = 5) -> Mesh:
    """An upright star prism centred at the origin; radii and height in metres."""
    angles = np.arange(2 * points) * (np.pi / points)
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    rim = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    count = len(rim)
    vertices = [np.append(xy, z) for z in (-height / 2, height / 2) for xy in rim]
    vertices += [np.array([0, 0, -height / 2]), np.array([0, 0, height / 2])]
    faces = []
    for k in range(count):
        n = (k + 1) % count
        faces += [[k, n, count + n], [k, count + n, count + k]]
        faces += [[2 * count, n, k], [2 * count + 1, count + k, count + n]]
    return np.array(vertices), np.array(faces)
