// Package replication measures `draasd sync run` beside what people use
// otherwise, in one run: an estate of ten thousand objects in two clouds in
// memory, and on two real sites an image beside curl, objects beside
// python-swiftclient, and creations beside the openstack command line.
//
// What is measured is a process of its own, by its time, the processor time
// and the greatest memory that the kernel counted for it; each figure and its
// peer come from the same rounds, one after the other. Nothing is asserted
// about time: machines differ. The table sets what came out beside what the
// project aims at.
package replication
